"""What keeps a served model within bounds: limits, guards on text, and an audit log of it all."""

from lmstack.safety.audit import AuditLog
from lmstack.safety.guarded import GuardedModel
from lmstack.safety.guards import GUARDS, Finding, Guard
from lmstack.safety.limits import Limits, RateLimiter, Reservation
from lmstack.safety.recorder import input_digest
from lmstack.safety.shadow import Shadow, ShadowBounds, ShadowModel
from lmstack.safety.traffic import Arm, Canary, CanaryModel, Observation
from lmstack.safety.verify import AuditReport, verify

__all__ = [
    "GUARDS",
    "Arm",
    "AuditLog",
    "AuditReport",
    "Canary",
    "CanaryModel",
    "Finding",
    "Guard",
    "GuardedModel",
    "Limits",
    "Observation",
    "RateLimiter",
    "Reservation",
    "Shadow",
    "ShadowBounds",
    "ShadowModel",
    "input_digest",
    "verify",
]
