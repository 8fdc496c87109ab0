"""What nodes do in the graph, and what an SROS 2 policy lets them do, in the same words."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

# What stands in the names of an action's topics and services (design.ros2.org/articles/actions).
_ACTION = '/_action/'
# What robot and overlay may do for TF, beside what the tests' parameters make them do.
TF = frozenset({('subscribe', '/tf'), ('subscribe', '/tf_static')})
_ATTRIBUTES = {
    'topics': ('publish', 'subscribe'),
    'services': ('reply', 'request'),
    'actions': ('execute', 'call'),
}


def full_name(text: str, namespace: str, node: str) -> str:
    """Give a name of a policy as it is in the graph, by the rules of sros2's permissions.xsl."""
    inside = namespace if namespace.endswith('/') else f'{namespace}/'
    if text.startswith('/'):
        return text
    return f'{inside}{node}{text[1:]}' if text.startswith('~') else f'{inside}{text}'


def granted(path: Path) -> dict[str, dict[str, set[tuple[str, str]]]]:
    """Read a policy: enclave, full name of a node, {(rule, name)} such as ('publish', '/a')."""
    enclaves: dict[str, dict[str, set[tuple[str, str]]]] = {}
    for enclave in ElementTree.parse(path).getroot().iterfind('enclaves/enclave'):
        nodes = enclaves.setdefault(enclave.get('path'), {})
        for profile in enclave.iterfind('profiles/profile'):
            where = profile.get('ns'), profile.get('node')
            rules = nodes.setdefault(full_name(where[1], where[0], ''), set())
            for group in profile:
                for rule in _ATTRIBUTES[group.tag]:
                    if group.get(rule) == 'ALLOW':
                        rules |= {(rule, full_name(entry.text, *where)) for entry in group}
    return enclaves


def needed(observer, full: str) -> set[tuple[str, str]]:
    """Ask the graph what a node does."""
    namespace, _, node = full.rpartition('/')
    ask = (
        ('publish', observer.get_publisher_names_and_types_by_node),
        ('subscribe', observer.get_subscriber_names_and_types_by_node),
        ('reply', observer.get_service_names_and_types_by_node),
        ('request', observer.get_client_names_and_types_by_node),
    )
    found = {(rule, name) for rule, get in ask for name, _ in get(node, namespace or '/')}
    meaning = {'publish': 'execute', 'reply': 'execute', 'subscribe': 'call', 'request': 'call'}
    return {
        (meaning[rule], name.partition(_ACTION)[0]) if _ACTION in name else (rule, name)
        for rule, name in found
    }


def to_profile(full: str, rules: set[tuple[str, str]]) -> str:
    """Write the profile of a node, to be copied into a policy."""
    namespace, _, node = full.rpartition('/')
    lines = [f'        <profile ns="{namespace or "/"}" node="{node}">']
    for group, attributes in _ATTRIBUTES.items():
        for rule in attributes:
            names = sorted(name for kind, name in rules if kind == rule)
            if not names:
                continue
            lines.append(f'          <{group} {rule}="ALLOW">')
            for name in names:
                own = name.startswith(f'{full}/')
                text = f'~{name.removeprefix(full)}' if own else name
                lines.append(f'            <{group[:-1]}>{text}</{group[:-1]}>')
            lines.append(f'          </{group}>')
    return '\n'.join([*lines, '        </profile>'])
