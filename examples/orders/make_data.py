#!/usr/bin/python3
"""Writes stock.csv and orders.csv: 48 articles and 1,000 orders of an outdoor
shop. The seed is fixed, so every run gives the same two files; they are
committed, and this script is only needed to change them."""

import csv
import datetime
import os
import random
import unicodedata

SEED = 20250407
ORDERS = 1000
HERE = os.path.dirname(os.path.abspath(__file__))

# sku, title, price, how often it is ordered
ARTICLES = [
    ("TNT-FELL2", "Fell two-person tent", "289.00", 4),
    ("TNT-FELL3", "Fell three-person tent", "349.00", 3),
    ("TNT-BIVI1", "Bivi bag, one person", "119.50", 4),
    ("TNT-TARP3", "Tarp 3 x 3 m", "79.90", 6),
    ("TNT-PEG10", "Tent pegs, set of ten", "14.90", 22),
    ("TNT-FOOT2", "Footprint for Fell two-person", "39.00", 5),
    ("SLP-DOWN5", "Down sleeping bag -5 C", "259.00", 5),
    ("SLP-SYNT0", "Synthetic sleeping bag 0 C", "129.00", 8),
    ("SLP-MATAI", "Inflatable mat", "99.90", 9),
    ("SLP-MATFO", "Folding foam mat", "34.90", 14),
    ("SLP-PILLO", "Camping pillow", "24.50", 15),
    ("SLP-LINER", "Silk liner", "54.00", 7),
    ("PCK-DAY18", "Daypack 18 l", "69.90", 13),
    ("PCK-DAY26", "Daypack 26 l", "89.90", 11),
    ("PCK-TRK50", "Trekking pack 50 l", "189.00", 6),
    ("PCK-TRK65", "Trekking pack 65 l", "219.00", 5),
    ("PCK-RAINM", "Rain cover M", "19.90", 17),
    ("PCK-DRY10", "Dry bag 10 l", "17.50", 24),
    ("PCK-DRY20", "Dry bag 20 l", "22.50", 20),
    ("STV-GAS01", "Gas stove, folding", "44.90", 14),
    ("STV-ALCO1", "Alcohol stove", "29.90", 8),
    ("STV-CART2", "Gas cartridge 230 g", "6.90", 40),
    ("STV-CART4", "Gas cartridge 450 g", "9.90", 32),
    ("STV-POT10", "Titanium pot 1.0 l", "59.00", 9),
    ("STV-POT18", "Aluminium pot 1.8 l", "32.00", 10),
    ("STV-SPORK", "Spork, titanium", "12.90", 33),
    ("STV-MUG45", "Enamel mug 450 ml", "11.50", 30),
    ("LGT-HEAD3", "Head lamp 350 lm", "49.90", 16),
    ("LGT-HEAD7", "Head lamp 700 lm", "79.90", 9),
    ("LGT-LANT1", "Camping lantern", "36.00", 10),
    ("LGT-BATAA", "Rechargeable AA, four", "16.90", 25),
    ("WAT-BOT05", "Steel bottle 0.5 l", "21.90", 22),
    ("WAT-BOT10", "Steel bottle 1.0 l", "27.90", 20),
    ("WAT-FILT1", "Squeeze water filter", "42.50", 12),
    ("WAT-BLAD2", "Hydration bladder 2 l", "34.50", 11),
    ("CLO-RAINJ", "Rain jacket", "179.00", 8),
    ("CLO-DOWNJ", "Light down jacket", "199.00", 7),
    ("CLO-MERTS", "Merino T-shirt", "64.90", 18),
    ("CLO-SOCK2", "Hiking socks, two pairs", "23.90", 35),
    ("CLO-GLOVE", "Fleece gloves", "26.90", 14),
    ("CLO-HATWO", "Wool hat", "28.50", 16),
    ("CLO-GAITR", "Gaiters", "45.00", 8),
    ("NAV-COMP1", "Baseplate compass", "38.50", 9),
    ("NAV-MAPC1", "Map case", "18.90", 11),
    ("NAV-WHIST", "Signal whistle", "7.50", 21),
    ("FIX-TAPE1", "Repair tape", "8.90", 26),
    ("FIX-KNIFE", "Folding knife", "47.00", 13),
    ("FIX-FIRST", "First aid kit, two persons", "31.90", 17),
]

# country: given names, family names, cities with postcode, mail domains
PEOPLE = {
    "DE": ("Lena Jonas Miriam Fatma Paul Anke Jürgen Emre Sabine Lukas Katrin Björn",
           "Schäfer Krüger Yilmaz Becker Hoffmann Vogt Weiß Lindner Brandt Öztürk",
           [("Leipzig", "04109"), ("Köln", "50667"), ("Freiburg im Breisgau", "79098"),
            ("Kiel", "24103"), ("Nürnberg", "90402"), ("Jena", "07743")], "example.de"),
    "FR": ("Camille Hugo Chloé Amadou Élodie Mathis Inès Benoît Zoé Rachid",
           "Lefèvre Moreau Garnier Diallo Fontaine Chevalier Benali Roussel Noël",
           [("Grenoble", "38000"), ("Lyon", "69002"), ("Annecy", "74000"),
            ("Rennes", "35000"), ("Pau", "64000")], "example.fr"),
    "GB": ("Oliver Priya Isla Callum Freya Mohammed Eilidh Rhys Amelia Kwame",
           "Hughes MacLeod Patel Thompson O'Connor Davies Campbell Okafor Whitaker Khan",
           [("Keswick", "CA12 5BX"), ("Sheffield", "S1 2HH"), ("Fort William", "PH33 6AN"),
            ("Cardiff", "CF10 1EP"), ("Bristol", "BS1 4ST")], "example.co.uk"),
    "SE": ("Elsa Nils Astrid Åke Maja Oskar Linnéa Hassan Björn",
           "Lindqvist Åberg Nyström Sjöberg Ekström Holm Engström Farah",
           [("Umeå", "903 26"), ("Göteborg", "411 03"), ("Åre", "837 52"),
            ("Uppsala", "753 10")], "example.se"),
    "IT": ("Giulia Matteo Chiara Davide Elena Tommaso Sofia Niccolò",
           "Ricci De Luca Ferraro Conti Moretti Bianchi D'Angelo Mair",
           [("Bolzano", "39100"), ("Torino", "10123"), ("Trento", "38122"),
            ("L'Aquila", "67100")], "example.it"),
    "PL": ("Zofia Jakub Małgorzata Łukasz Agnieszka Piotr Hanna Wojciech",
           "Nowak Wójcik Kowalczyk Zieliński Szymańska Dąbrowski Kamińska",
           [("Kraków", "31-042"), ("Zakopane", "34-500"), ("Wrocław", "50-106"),
            ("Łódź", "90-001")], "example.pl"),
    "ES": ("Lucía Martín Paula Álvaro Noa Iñaki Carmen Jordi",
           "García Etxeberria Fernández Puig Navarro Ibáñez Castaño",
           [("Jaca", "22700"), ("Bilbao", "48001"), ("Granada", "18009"),
            ("Girona", "17001")], "example.es"),
    "NL": ("Sanne Daan Femke Thijs Aylin Jeroen Lotte Bram",
           "de_Vries van_den_Berg Bakker Visser Aydin Jansen Smit",
           [("Utrecht", "3511 AB"), ("Nijmegen", "6511 PS"), ("Groningen", "9712 CP")],
           "example.nl"),
}
COUNTRY_WEIGHTS = {"DE": 30, "FR": 16, "GB": 16, "SE": 9, "IT": 9, "PL": 8, "ES": 7, "NL": 5}


def ascii_name(text):
    text = text.replace("ł", "l").replace("Ł", "L").replace("ß", "ss")
    text = unicodedata.normalize("NFKD", text)
    return "".join(c for c in text.lower() if c.isascii() and (c.isalnum() or c == "-"))


def split_names(text):
    names = text.replace("De Luca", "De_Luca").split()
    return [name.replace("_", " ") for name in names]


def main():
    rng = random.Random(SEED)
    customers = []
    for country, weight in COUNTRY_WEIGHTS.items():
        given, family, cities, domain = PEOPLE[country]
        given, family = split_names(given), split_names(family)
        pairs = [(g, f) for g in given for f in family]
        rng.shuffle(pairs)
        for g, f in pairs[:weight * 7]:
            city, postcode = rng.choice(cities)
            customers.append((f"{g} {f}", f"{ascii_name(g)}.{ascii_name(f)}@{domain}",
                              city, postcode, country, weight))

    # Orders come in over a week, few of them at night.
    start = datetime.datetime(2025, 4, 7, tzinfo=datetime.timezone.utc)
    by_hour = [1, 1, 1, 1, 1, 2, 5, 9, 12, 14, 15, 16, 17, 15, 14, 14, 15, 17, 19, 22, 21, 15, 8, 3]
    times = sorted(
        start + datetime.timedelta(days=rng.randrange(7), hours=rng.choices(range(24), by_hour)[0],
                                   seconds=rng.randrange(3600))
        for _ in range(ORDERS))

    demand = dict.fromkeys((a[0] for a in ARTICLES), 0)
    with open(os.path.join(HERE, "orders.csv"), "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow("order_id ordered_at customer email city postcode country "
                     "sku quantity unit_price".split())
        number = 48213
        for when in times:
            number += rng.choice((1, 1, 1, 2, 3))
            name, email, city, postcode, country, _ = rng.choice(customers)
            sku, _, price, _ = rng.choices(ARTICLES, [a[3] for a in ARTICLES])[0]
            cheap = float(price) < 30
            quantity = rng.choices((1, 2, 3, 4, 6), (5, 5, 3, 2, 1) if cheap else (20, 3, 1, 0, 0))[0]
            if rng.random() < 0.08:     # on sale
                price = f"{float(price) * 0.85:.2f}"
            demand[sku] += quantity
            out.writerow((f"SO-{number}", when.strftime("%Y-%m-%dT%H:%M:%SZ"), name, email, city,
                          postcode, country, sku, quantity, price))

    with open(os.path.join(HERE, "stock.csv"), "w", newline="", encoding="utf-8") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow(("sku", "title", "delivered"))
        for sku, title, _, _ in ARTICLES:
            out.writerow((sku, title, demand[sku] + rng.randrange(2, 30)))


main()
