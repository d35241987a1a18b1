from tests.engine.conftest import generate


def test_x(make_engine):
    assert len(generate(make_engine(), range(20)).tokens) == 8
