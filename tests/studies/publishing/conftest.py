from __future__ import annotations

from tests.featurestore.conftest import s3_server as s3_server
from tests.featurestore.conftest import s3_url as s3_url
