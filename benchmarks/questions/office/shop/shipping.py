"""What a parcel costs: used by the web shop's checkout."""

ZONES = {"GB": 1.0, "IE": 1.6, "DE": 1.9, "FR": 1.8, "PT": 2.2}
BASE = 6.90
PER_KG = 0.55
HEAVY_KG = 30


def shipping_cost(weight_kg: float, country: str) -> float:
    """Pounds for a parcel of ``weight_kg`` to ``country``.

    The base and the price of every kilogram are multiplied by the country's zone. Parcels above
    HEAVY_KG go on a pallet, which costs 35 pounds more.
    """
    if country not in ZONES:
        raise ValueError(f"we do not send parcels to {country}")
    cost = (BASE + PER_KG * weight_kg) * ZONES[country]
    if weight_kg > HEAVY_KG:
        cost += 35
    return round(cost, 2)
