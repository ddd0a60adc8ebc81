"""The reverse proxy: hospitals reach Flower's fleet API and nothing else.

Flower's SuperLink serves fleet, control and runtime APIs on one port, and its control API asks for no
authentication. So it listens on loopback, and nginx passes on the paths of the fleet API alone.
"""

from server.folder import CoordinatorFolder
from server.settings import Settings

_ROUND_HOURS = 2  # the longest silence that is not taken for a broken connection

_TEMPLATE = """# Written by medgan-server: hospitals get the fleet API of Flower, everybody else gets 403.
# Try it:   nginx -t -c {path}/nginx.conf -p {path}
# Start it: nginx -c {path}/nginx.conf -p {path}
# or take over the block "server" into the nginx of your machine.

worker_processes auto;
pid logs/nginx.pid;
error_log logs/nginx-error.log warn;

events {{ worker_connections 1024; }}

http {{
    access_log logs/nginx-access.log;
    client_body_temp_path logs/nginx-body;
    proxy_temp_path logs/nginx-proxy;
    fastcgi_temp_path logs/nginx-fastcgi;
    uwsgi_temp_path logs/nginx-uwsgi;
    scgi_temp_path logs/nginx-scgi;
    server_tokens off;

    upstream superlink {{
        server 127.0.0.1:{superlink_port};
        keepalive 16;
    }}

    server {{
        listen {proxy_port} ssl;
        server_name {names};

        ssl_certificate     tls/server.pem;
        ssl_certificate_key tls/server.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:medgan:1m;

        # Updates are as large as the networks, and a site may work for long before it answers.
        client_max_body_size 0;
        client_body_timeout {hours}h;
        send_timeout {hours}h;

        # The path as it was sent, before nginx decodes it: what is not literally of the fleet API is refused.
        location / {{ return 403; }}
        location /v1/fleet/ {{
            if ($request_uri !~ "^/v1/fleet/[a-z-]+$") {{ return 403; }}
            limit_except POST {{ deny all; }}
            proxy_pass https://superlink;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host localhost;
            proxy_ssl_trusted_certificate tls/ca.crt;
            proxy_ssl_verify on;
            proxy_ssl_name localhost;
            proxy_ssl_verify_depth 3;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_connect_timeout 10s;
            proxy_read_timeout {hours}h;
            proxy_send_timeout {hours}h;
        }}
    }}
}}
"""


def nginx_conf(folder: CoordinatorFolder, settings: Settings) -> str:
    """The configuration of nginx for this coordinator."""
    return _TEMPLATE.format(
        path=folder.path,
        names=" ".join(settings.hosts or ("_",)),
        hours=_ROUND_HOURS,
        superlink_port=settings.superlink_port,
        proxy_port=settings.proxy_port,
    )
