"""A float that JSON can hold: infinity as "inf", nan as "nan"."""

from typing import Annotated

from pydantic import PlainSerializer

from medgan_core.messages import float_to_json

Figure = Annotated[float, PlainSerializer(float_to_json, when_used="json")]
