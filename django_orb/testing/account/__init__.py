"""An Orb account without a server: its state and the rules by which it changes."""

from __future__ import annotations

from .account import Account, Lagging, Terms
from .bills import BillKey
from .bodies import json_body
from .clock import Clock
from .customer_records import CustomerRecords
from .events import STYLES, Event, EventQuery, Events
from .made_up import MadeUpOrb
from .operations import Operations
from .problems import Problem, conflict, invalid, payload_for_status, unknown
from .query import parse, parse_flag
from .rows import Row
from .templates import dumps

__all__ = [
    "STYLES",
    "Account",
    "BillKey",
    "Clock",
    "CustomerRecords",
    "Event",
    "EventQuery",
    "Events",
    "Lagging",
    "MadeUpOrb",
    "Operations",
    "Problem",
    "Row",
    "Terms",
    "conflict",
    "dumps",
    "invalid",
    "json_body",
    "parse",
    "parse_flag",
    "payload_for_status",
    "unknown",
]
