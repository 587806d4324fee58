"""The regions of customers: currency, time zone, addresses and taxes."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from .lines import Tax


@dataclass(frozen=True)
class Region:
    code: str
    country: str
    currency: str
    time_zone: str
    state: str | None
    cities: tuple[tuple[str, str], ...]
    streets: tuple[str, ...]
    taxes: tuple[Tax, ...] = ()
    tax_id_type: str | None = None
    tax_id_format: str = ""
    weight: int = 5


_STREETS = ("Harbor Way", "Market Street", "Mill Road", "Union Avenue", "Pine Street")

_ALL = (
    Region(
        "us-wa",
        "US",
        "USD",
        "America/Los_Angeles",
        "WA",
        (("Seattle", "98101"), ("Bellevue", "98004"), ("Spokane", "99201")),
        _STREETS,
        (Tax("Washington sales tax", Decimal("10.35")),),
        "us_ein",
        "##-#######",
        12,
    ),
    Region(
        "us-ca",
        "US",
        "USD",
        "America/Los_Angeles",
        "CA",
        (("San Francisco", "94105"), ("Los Angeles", "90013"), ("Oakland", "94607")),
        _STREETS,
        (),
        "us_ein",
        "##-#######",
        18,
    ),
    Region(
        "us-ny",
        "US",
        "USD",
        "America/New_York",
        "NY",
        (("New York", "10013"), ("Brooklyn", "11201"), ("Buffalo", "14202")),
        _STREETS,
        (Tax("New York sales tax", Decimal("8.875")),),
        None,
        "",
        16,
    ),
    Region(
        "us-tx",
        "US",
        "USD",
        "America/Chicago",
        "TX",
        (("Austin", "78701"), ("Dallas", "75201"), ("Houston", "77002")),
        _STREETS,
        (Tax("Texas sales tax", Decimal("6.6")),),
        "us_ein",
        "##-#######",
        10,
    ),
    Region(
        "ca-qc",
        "CA",
        "CAD",
        "America/Toronto",
        "QC",
        (("Montréal", "H2Y 1C6"), ("Québec", "G1R 4P5")),
        ("Rue Saint-Paul", "Boulevard René-Lévesque", "Rue Sherbrooke"),
        (Tax("GST", Decimal(5)), Tax("QST", Decimal("9.975"))),
        "ca_gst_hst",
        "#########RT0001",
        6,
    ),
    Region(
        "gb",
        "GB",
        "GBP",
        "Europe/London",
        None,
        (("London", "EC2A 4NE"), ("Manchester", "M1 1AE"), ("Bristol", "BS1 5TR")),
        ("Rivington Street", "King Street", "Queen Square"),
        (Tax("VAT", Decimal(20)),),
        "gb_vat",
        "GB#########",
        10,
    ),
    Region(
        "de",
        "DE",
        "EUR",
        "Europe/Berlin",
        None,
        (("Berlin", "10115"), ("München", "80331"), ("Köln", "50667")),
        ("Torstraße", "Leopoldstraße", "Hohenzollernring"),
        (Tax("MwSt.", Decimal(19)),),
        "eu_vat",
        "DE#########",
        9,
    ),
    Region(
        "fr",
        "FR",
        "EUR",
        "Europe/Paris",
        None,
        (("Paris", "75009"), ("Lyon", "69002"), ("Nantes", "44000")),
        ("Rue de Châteaudun", "Rue de la République", "Quai de la Fosse"),
        (Tax("Reverse charge", Decimal(0), "reverse_charge"),),
        "eu_vat",
        "FR##########",
        7,
    ),
    Region(
        "au",
        "AU",
        "AUD",
        "Australia/Sydney",
        "NSW",
        (("Sydney", "2000"), ("Newcastle", "2300")),
        ("Kent Street", "Hunter Street"),
        (Tax("GST", Decimal(10)),),
        "au_abn",
        "###########",
        5,
    ),
    Region(
        "jp",
        "JP",
        "JPY",
        "Asia/Tokyo",
        None,
        (("東京都千代田区", "100-0005"), ("大阪市北区", "530-0001")),
        ("丸の内1-9-1", "梅田3-1-3"),
        (Tax("消費税", Decimal(10)),),
        "jp_cn",
        "#############",
        4,
    ),
)

REGIONS = {region.code: region for region in _ALL}
