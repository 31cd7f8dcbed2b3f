"""Schemas that take the whole of a query or of a form, read at once. HTTP only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from fastapi._compat import field_annotation_is_sequence, lenient_issubclass
from fastapi.params import Form, Query
from pydantic import BaseModel
from starlette.datastructures import ImmutableMultiDict


class Model(NamedTuple):
    """A schema of single values, none of which has another name outside.

    Attributes:
        field: FastAPI's description of the parameter.
        names: Of the schema's fields.
        is_form: Whether it takes a form, in which an empty field is none; else a query.
    """

    field: Any
    names: frozenset[str]
    is_form: bool

    @classmethod
    def of(cls, fields: Sequence[Any]) -> "Model | None":
        """Return the schema, if it is all that these parameters are."""
        if len(fields) != 1 or not isinstance(fields[0].field_info, Form | Query):
            return None
        schema = fields[0].field_info.annotation
        if not lenient_issubclass(schema, BaseModel):
            return None
        for inner in schema.model_fields.values():
            if inner.alias or inner.validation_alias or field_annotation_is_sequence(inner.annotation):
                return None
        return cls(fields[0], frozenset(schema.model_fields), isinstance(fields[0].field_info, Form))

    def read(self, sent: ImmutableMultiDict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        """Return the value by the parameter's name, and what was refused of it.

        What the schema does not know is given to it too: it may refuse it.
        """
        found: dict[str, Any] = {}
        more: dict[str, list[Any]] = {}
        for name, value in sent.multi_items():
            if name not in self.names:
                more.setdefault(name, []).append(value)
            elif value or not self.is_form:
                found[name] = value
            else:
                # The last one counts, and this one is none.
                found.pop(name, None)
        found |= {name: values[0] if len(values) == 1 else values for name, values in more.items()}
        value, errors = self.field.validate(found, {}, loc=("body" if self.is_form else "query",))
        return {self.field.name: value}, errors or []
