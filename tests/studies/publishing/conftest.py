from __future__ import annotations

from tests.featurestore.conftest import s3_server as s3_server
from tests.featurestore.conftest import s3_url as s3_url
from tests.web_server import web_server as web_server
