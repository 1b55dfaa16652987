"""What an error on a socket carries beside its words, so that a client can turn it into an HTTP status.

Only where the request is at fault: of its own troubles the real gateway gives none either.
"""

from collections.abc import Mapping

BAD_REQUEST: Mapping[str, object] = {"statusCode": 400, "errorCode": "BAD_REQUEST"}
UNKNOWN_METHOD: Mapping[str, object] = {"statusCode": 404, "errorCode": "UNKNOWN_METHOD"}
