import copy
import pickle
import sys

import pytest

from flare.errors import MappedHandlerError, ValidationError
from flare.http import RedirectPolicy, Url
from flare.http.proto import H1LeniencyConfig
from flare.http.proto.heads import H1Limits

FROZEN = [MappedHandlerError(404, "Not Found"), RedirectPolicy(3), H1LeniencyConfig()]
CHANGEABLE = [H1Limits(), Url("http", "a", 80, "/")]


@pytest.mark.parametrize("value", FROZEN + CHANGEABLE, ids=lambda value: type(value).__name__)
def test_a_copy_is_equal_and_another(value):
    for same in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert same == value
        assert same is not value
        assert repr(same) == repr(value)


@pytest.mark.parametrize("value", FROZEN, ids=lambda value: type(value).__name__)
def test_a_frozen_one_is_a_key_and_keeps_its_values(value):
    assert {value: 1}[copy.copy(value)] == 1
    name = type(value).__slots__[0]
    before = getattr(value, name)
    with pytest.raises(AttributeError, match=name):
        setattr(value, name, before)
    with pytest.raises(AttributeError, match=name):
        delattr(value, name)
    assert getattr(value, name) == before


@pytest.mark.parametrize("value", CHANGEABLE, ids=lambda value: type(value).__name__)
def test_one_that_changes_is_no_key(value):
    with pytest.raises(TypeError, match="unhashable"):
        hash(value)


def test_others_are_not_equal():
    assert RedirectPolicy(3) != RedirectPolicy(4)
    assert RedirectPolicy(3) != (3, 0)
    assert MappedHandlerError(3, "") != RedirectPolicy(3)


def test_the_text_names_every_value_but_a_secret():
    assert repr(MappedHandlerError(404, "No")) == "MappedHandlerError(status=404, reason='No')"
    shown = repr(Url("http", "a", 80, "/", username="me", password="hunter2"))
    assert "username='me'" in shown
    assert "hunter2" not in shown
    assert "password" not in shown


def test_a_replaced_value_is_checked():
    assert RedirectPolicy(3).replace(max_redirects=4) == RedirectPolicy(4)
    with pytest.raises(ValidationError, match="max_redirects"):
        RedirectPolicy(3).replace(max_redirects=-1)
    with pytest.raises(TypeError, match="hops"):
        RedirectPolicy(3).replace(hops=1)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="copy.replace came with 3.13")
def test_the_copy_module_replaces_too():
    assert copy.replace(Url("http", "a", 80, "/"), port=8080) == Url("http", "a", 8080, "/")
