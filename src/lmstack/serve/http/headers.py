"""Security headers for API answers and for pages served beside them."""

from __future__ import annotations

__all__ = ["API_CSP", "PAGE_CSP", "security_headers"]

API_CSP = "default-src 'none'; frame-ancestors 'none'"
PAGE_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def security_headers(csp: str = API_CSP) -> dict[str, str]:
    """``csp``: `API_CSP` loads nothing; `PAGE_CSP` loads scripts and styles of this host only."""
    return {
        "Content-Security-Policy": csp,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
