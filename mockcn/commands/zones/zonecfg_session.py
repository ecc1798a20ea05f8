# SPDX-License-Identifier: MPL-2.0
"""One run of zonecfg: the configuration in the memory, the statements that change it, and its way to the disk.

    global scope   --add, select-->   a resource   --end, cancel-->   global scope

Always: a statement that fails changes nothing, leaves the scope it found (a failed `end` leaves its resource open), and
        does not stop the script. What the others changed is committed at the end; the exit status says that one failed.
Always: a commit replaces the XML by a rename, then the index if that changed, and only then a new zone's event goes
        out; a run that changed nothing writes nothing (docs/platform.md, "zonecfg").
Not here: the script's text (zonecfg_words.py), the resources (zonecfg_resources.py), printing (zonecfg_info.py)."""

from typing import Callable, Optional, Union
from xml.etree.ElementTree import Element

from mockcn.commands.output import Output
from mockcn.commands.zones import zonecfg_info
from mockcn.commands.zones.zonecfg_resources import (
    CAPS,
    KINDS,
    NO_SUCH_ID,
    NO_SUCH_PROPERTY,
    NO_SUCH_TYPE,
    RESOURCES,
    CapDraft,
    Draft,
    capped,
    count,
    find,
    limit,
    plain,
    size,
)
from mockcn.commands.zones.zonecfg_words import BadStatement, Statement
from mockcn.node import Node
from mockcn.state import zonexml
from mockcn.state.zones import Zone

CONTROLS = (
    "cpu-shares",
    "max-lwps",
    "max-msg-ids",
    "max-sem-ids",
    "max-shm-ids",
    "max-shm-memory",
    "zfs-io-priority",
    "max-processes",
)
ATTRIBUTES = {
    "zonepath": "zonepath",
    "brand": "brand",
    "autoboot": "autoboot",
    "ip-type": "ip-type",
    "limitpriv": "limitpriv",
    "fs-allowed": "fs-allowed",
    "bootargs": "bootargs",
    "pool": "pool",
    "scheduling-class": "scheduling-class",
    "hostid": "hostid",
}
NOT_WHEN_INSTALLED = ("zonepath", "brand", "ip-type")
EMPTY = {"name": "", "zonepath": "", "autoboot": "false", "brand": "", "ip-type": "shared"}


class Session:
    """The work of one zonecfg on the zone `name`. `failed`: whether any statement did."""

    def __init__(self, node: Node, name: str, output: Output) -> None:
        self.failed = False
        self.over = False  # after `exit`
        self._node = node
        self._name = name
        self._output = output
        self._draft: Optional[Union[Draft, CapDraft]] = None
        self._configuration: Optional[Element] = None
        self._uuid: Optional[str] = None  # what `set uuid` said
        self._new = False  # made by `create`, not there yet
        self._changed = False
        self._verbs: dict[str, Callable[[Statement], None]] = {
            "create": self._create,
            "delete": self._delete,
            "set": self._set,
            "clear": self._clear,
            "add": self._add,
            "select": self._select,
            "remove": self._remove,
            "end": self._end,
            "cancel": self._cancel,
            "info": self._info,
            "commit": self._commit,
            "verify": self._verify,
            "exit": self._exit,
        }

    def carry_out(self, statement: Statement) -> None:
        """Raises BadStatement; the configuration then is as it was."""
        verb = self._verbs.get(statement.verb)
        if verb is None:
            raise BadStatement(f"syntax error at '{statement.verb}'")
        verb(statement)

    def close(self) -> None:
        """Commit what there is to commit. Raises BadStatement if the configuration cannot be."""
        if self._changed:
            self._commit(Statement("commit"))

    # -- the whole configuration -----------------------------------------------------------------------------------

    def _zone(self) -> Optional[Zone]:
        zone = self._node.zones.zones.get(self._name)
        return None if zone is None or zone.deleted else zone

    def _open(self) -> Element:
        """The configuration, read from the disk by the first statement that needs it. Raises BadStatement."""
        if self._configuration is None:
            with self._node.lock:
                zone = self._zone()
                if zone is None:
                    raise BadStatement(f"{self._name}: No such zone configured")
                try:
                    self._configuration = zonexml.parse(self._node.zones.read_xml(zone))
                except (OSError, zonexml.NotXml) as err:
                    raise BadStatement(f"{self._name}: Invalid document") from err
        return self._configuration

    def _installed(self) -> bool:
        zone = self._node.zones.zones.get(self._name)
        return zone is not None and (zone.state == "installed" or zone.kernel is not None)

    def _create(self, statement: Statement) -> None:
        self._only_in("global", "create")
        zone = self._zone()
        if self._installed():
            raise BadStatement(f"Zone {self._name} already installed; create not allowed.")
        if zone is not None and "F" not in statement.flags:
            raise BadStatement(f"Zone {self._name} already exists; use create -F to replace its configuration.")
        self._configuration = Element("zone", {**EMPTY, "name": self._name})
        self._new, self._changed = zone is None, True

    def _delete(self, statement: Statement) -> None:
        self._only_in("global", "delete")
        if "F" not in statement.flags:
            raise BadStatement("Input not from terminal and -F not specified:\ndelete command ignored, exiting.")
        self._output.reached("delete")
        with self._node.lock:
            zone = self._zone()
            if zone is None and not self._new:
                raise BadStatement(f"{self._name}: No such zone configured")
            if zone is not None:
                self._node.zones.remove(zone, force=True)
        self._configuration, self._new, self._changed, self._uuid = None, False, False, None

    def _verify(self, statement: Statement) -> None:
        configuration = self._open()
        for name in ("zonepath", "brand"):
            if not configuration.get(name):
                raise BadStatement(f"{name} cannot be empty.\n{self._name}: Required resource missing")

    def _commit(self, statement: Statement) -> None:
        self._only_in("global", "commit")
        self._verify(statement)
        self._output.reached("commit")
        configuration, node = self._open(), self._node
        with node.lock:
            zone = self._zone()
            if zone is None and not self._new:
                raise BadStatement(f"{self._name}: No such zone configured")
            if zone is None:
                configuration.set("debugid", str(node.zones.new_debugid()))
                zone = Zone(
                    self._name,
                    self._uuid or "",
                    configuration.get("zonepath", ""),
                    "configured",
                    configuration.get("brand", ""),
                    configuration.get("ip-type") != "exclusive",
                    int(configuration.get("debugid", "0")),
                )
                node.zones.add(zone, zonexml.text(configuration).encode())
            else:
                if configuration.get("debugid") is None and zone.debugid is not None:
                    configuration.set("debugid", str(zone.debugid))
                node.zones.write_xml(zone, zonexml.text(configuration).encode())
                line = (zone.uuid if self._uuid is None else self._uuid, configuration.get("zonepath", zone.zonepath))
                if line != (zone.uuid, zone.zonepath):
                    zone.uuid, zone.zonepath = line
                    node.zones.write_index()
        self._new = self._changed = False

    def _exit(self, statement: Statement) -> None:
        self.over = True

    def _info(self, statement: Statement) -> None:
        zonecfg_info.show(
            self._open(), self._uuid if self._uuid is not None else self._known_uuid(), statement, self._output
        )

    def _known_uuid(self) -> str:
        zone = self._zone()
        return zone.uuid if zone else ""

    # -- properties ------------------------------------------------------------------------------------------------

    def _set(self, statement: Statement) -> None:
        if len(statement.operands) != 1 or not statement.operands[0].name:
            raise BadStatement("set: a property-name=value was expected")
        name, value = statement.operands[0].name, statement.operands[0].value
        configuration = self._open()
        if self._draft is not None:
            self._draft.set(name, value)
            return
        if name in CONTROLS:
            text = plain(value, name)
            zonexml.set_rctl(
                configuration, f"zone.{name}", size(text, name) if name == "max-shm-memory" else count(text, name)
            )
        elif name == "uuid":
            self._uuid = plain(value, name)
        elif name in ATTRIBUTES:
            self._set_attribute(configuration, name, ",".join(value) if isinstance(value, list) else plain(value, name))
        else:
            raise BadStatement("Cannot set a resource-specific property from the global scope.")
        self._changed = True

    def _set_attribute(self, configuration: Element, name: str, value: str) -> None:
        if name in NOT_WHEN_INSTALLED and self._installed() and value != configuration.get(name):
            raise BadStatement(f"Zone {self._name} already installed; set {name} not allowed.")
        if name == "autoboot" and value not in ("true", "false"):
            raise BadStatement("autoboot value must be 'true' or 'false'.")
        if name == "ip-type" and value not in ("shared", "exclusive"):
            raise BadStatement("ip-type value must be 'shared' or 'exclusive'.")
        if name == "zonepath" and not value.startswith("/"):
            raise BadStatement(f"{value} is not an absolute path.")
        configuration.set(ATTRIBUTES[name], value)

    def _clear(self, statement: Statement) -> None:
        name = statement.word(0)
        configuration = self._open()
        if self._draft is not None:
            self._draft.clear(name)
        elif name in CONTROLS and limit(configuration, f"zone.{name}") is not None:
            zonexml.set_rctl(configuration, f"zone.{name}", None)
        elif name in ATTRIBUTES and name not in ("zonepath", "brand") and configuration.get(name):
            del configuration.attrib[ATTRIBUTES[name]]
        elif name in CONTROLS or name in ATTRIBUTES:
            raise BadStatement(f"clear {name}: {NO_SUCH_PROPERTY}")
        else:
            raise BadStatement(f"clear {name}: {NO_SUCH_TYPE}")
        self._changed = True

    # -- resources -------------------------------------------------------------------------------------------------

    def _add(self, statement: Statement) -> None:
        configuration, resource = self._open(), statement.word(0)
        if self._draft is not None:
            self._draft.add(resource, [operand.value for operand in statement.operands[1:]])
        elif resource in CAPS:
            if capped(configuration, resource):
                raise BadStatement(f"The {resource} resource already exists.")
            self._draft = CapDraft(configuration, resource)
        elif resource in KINDS:
            self._draft = Draft(configuration, resource)
        else:
            raise BadStatement(f"syntax error at '{resource}'")

    def _select(self, statement: Statement) -> None:
        self._only_in("global", "select")
        configuration, resource = self._open(), statement.word(0)
        if resource in CAPS:
            if not capped(configuration, resource):
                raise BadStatement(f"select {resource}: {NO_SUCH_ID}")
            self._draft = CapDraft(configuration, resource)
        elif resource in KINDS:
            found = find(configuration, resource, statement.operands[1:])
            if len(found) != 1:
                raise BadStatement(f"select {resource}: {'Ambiguous resource specification' if found else NO_SUCH_ID}")
            self._draft = Draft(configuration, resource, found[0])
        else:
            raise BadStatement(f"syntax error at '{resource}'")

    def _remove(self, statement: Statement) -> None:
        configuration, resource, force = self._open(), statement.word(0), "F" in statement.flags
        if self._draft is not None:
            self._draft.remove(resource, [operand.value for operand in statement.operands[1:]], force=force)
            return
        if resource not in RESOURCES:
            raise BadStatement(f"syntax error at '{resource}'")
        if resource in CAPS:
            found = capped(configuration, resource)
            for control in CAPS[resource].values():
                zonexml.set_rctl(configuration, control, None)
        else:
            elements = find(configuration, resource, statement.operands[1:])
            if len(elements) > 1 and not force:
                raise BadStatement(f"remove {resource}: Ambiguous resource specification")
            for element in elements:
                configuration.remove(element)
            found = bool(elements)
        if not found and not force:
            raise BadStatement(f"remove {resource}: {NO_SUCH_ID}")
        self._changed = self._changed or found

    def _end(self, statement: Statement) -> None:
        self._only_in("resource", "end")
        assert self._draft is not None
        self._draft.finish()
        self._draft, self._changed = None, True

    def _cancel(self, statement: Statement) -> None:
        self._only_in("resource", "cancel")
        self._draft = None

    def _only_in(self, scope: str, verb: str) -> None:
        if (self._draft is None) != (scope == "global"):
            raise BadStatement(f"The {verb} command only makes sense in the {scope} scope.")

    def unfinished(self) -> Optional[str]:
        """The resource that was left open at the end of the script, and with it forgotten."""
        left, self._draft = self._draft, None
        return left.resource if left is not None else None
