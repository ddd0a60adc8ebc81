"""The ClientApp of the tests' sites: it hands each message to a site behind a socket."""

from client.app import make_client_app
from tests.server.sites import ask

app = make_client_app(lambda context, asked: ask(str(context.node_config["socket"]), asked))
