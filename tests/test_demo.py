"""The demonstration's models run, and see nothing from after the moment they predict at."""

from __future__ import annotations

import pytest

import relann
from relann.datasets import nycflights13
from relann.demo.flights import query
from relann.session import Session

MOMENT = "TIMESTAMP '2013-11-13 12:00'"


@pytest.fixture(scope="module")
def con() -> Session:
    """A few days of flights, the demonstration's model trained for an epoch."""
    session = relann.connect()
    nycflights13(session.connection)
    session.sql(
        "DELETE FROM flights WHERE NOT (time_hour BETWEEN '2013-08-01' AND '2013-08-06' "
        "OR time_hour BETWEEN '2013-09-01' AND '2013-09-03' "
        "OR time_hour BETWEEN '2013-11-11' AND '2013-11-15')"
    )
    session.sql(query("flights").replace("epochs = 40", "epochs = 1"))
    return session


ASKED = (
    "SELECT flight_id, probability FROM ml_predict('late', (SELECT flight_id FROM flights "
    f"WHERE sched_dep_time - INTERVAL 1 HOUR BETWEEN {MOMENT} - INTERVAL 6 HOUR AND {MOMENT} "
    "AND arr_delay IS NOT NULL)) ORDER BY flight_id"
)


def test_rows_after_the_cut_off_change_nothing(con: Session) -> None:
    """Delays and weather that become known later are changed; predictions stay, bit for bit."""
    before = con.sql(ASKED).fetchall()
    assert len(before) > 200
    con.sql(
        f"UPDATE flights SET dep_delay = 777, dep_time = dep_time + INTERVAL 9 HOUR "
        f"WHERE dep_time >= {MOMENT}; "
        f"UPDATE flights SET arr_delay = arr_delay + 500, arr_time = arr_time + INTERVAL 9 HOUR "
        f"WHERE arr_time >= {MOMENT}; "
        f"UPDATE weather SET temp = -temp, visib = 0 WHERE time_hour >= {MOMENT}"
    )
    assert con.sql(ASKED).fetchall() == before


def test_rows_before_the_cut_off_do(con: Session) -> None:
    """The check above would see a change: what was known does move predictions."""
    before = con.sql(ASKED).fetchall()
    con.sql(f"UPDATE flights SET dep_delay = 300 WHERE dep_time < {MOMENT} - INTERVAL 2 HOUR")
    assert con.sql(ASKED).fetchall() != before
