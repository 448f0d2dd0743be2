"""What the doctor looks at of the pages."""

from __future__ import annotations

from collections.abc import Iterator

from monitor.core.config import Settings
from monitor.health.check import FAIL, OK, WARN, Check
from monitor.web.accounts import Accounts
from monitor.web.serving.server import is_safe_to_bind, tls_context


def look_at_pages(settings: Settings) -> Iterator[Check]:
    """Check how the pages are served, and to whom."""
    web = settings.web
    if not web.enabled:
        yield Check(OK, "pages", "not served (web.enabled)")
        return
    is_tls = tls_context(web) is not None
    address = f"{'https' if is_tls else 'http'}://{web.host}:{web.port}"
    accounts_exist = Accounts(settings.data_directory).exist()
    if not is_safe_to_bind(web.host, accounts_exist=accounts_exist):
        advice = "trapwatch web password, or set web.host to 127.0.0.1"
        yield Check(FAIL, "pages", f"{address}: others could come in, no password is set", advice)
    elif not is_tls and not is_safe_to_bind(web.host, accounts_exist=False):
        advice = "set web.certificate and web.key"
        yield Check(WARN, "pages", f"{address}: whoever listens can read passwords", advice)
    else:
        yield Check(OK, "pages", address)
