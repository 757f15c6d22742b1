//! What expressions give, what they are refused for, and what they cost.

use super::*;
use serde_json::json;

fn environment() -> Environment {
    Environment::new().variable("object", Declared::Dyn).authorizer().objects(Arc::new(NoObjects))
}

struct NoObjects;

impl ObjectTypes for NoObjects {
    fn find(&self, _: &str) -> Option<Arc<dyn ObjectType>> {
        None
    }
}

fn run(expression: &str, object: &serde_json::Value) -> Result<serde_json::Value, String> {
    let environment = environment();
    let program = compile(expression, &environment)?;
    let bindings = Bindings::new().json("object", object, &environment);
    let value = program.evaluate(&bindings).value.map_err(|failure| failure.message)?;
    value.to_json().map_err(|failure| failure.message)
}

#[test]
fn expressions_hold() {
    let object = json!({
        "spec": {"replicas": 3, "ratio": 0.5, "name": "web", "list": [1, 2, 3], "map": {"a": "x", "b": "y"}},
        "items": [{"name": "a", "value": 1}, {"name": "b", "value": 2}],
    });
    for expression in [
        "object.spec.replicas == 3 && object.spec.replicas < 3.5 && object.spec.replicas != 3.1",
        "has(object.spec.name) && !has(object.spec.nothing)",
        "object.spec.nothing == 1 || object.spec.replicas == 3",
        "!(object.spec.nothing == 1 && object.spec.replicas == 4)",
        "object.spec.list.all(x, x > 0) && object.spec.list.exists(x, x == 3) && object.spec.list.exists_one(x, x == 2)",
        "object.spec.list.map(x, x * 2) == [2, 4, 6] && object.spec.list.filter(x, x > 1) == [2, 3]",
        "object.spec.list.map(x, x > 1, x + 1) == [3, 4]",
        "object.spec.map.all(k, k in ['a', 'b']) && object.spec.map['a'] == 'x' && 'a' in object.spec.map",
        "object.spec.map.transformMap(k, v, k + v) == {'a': 'ax', 'b': 'by'}",
        "object.spec.list.transformList(i, v, i > 0, i * v) == [2, 6]",
        "object.spec.map.transformMapEntry(k, v, {v: k}) == {'x': 'a', 'y': 'b'}",
        "object.spec.list.all(i, v, v == i + 1) && object.spec.map.exists(k, v, v == 'y')",
        "object.?spec.?nothing.orValue('none') == 'none' && object.?spec.?name.hasValue()",
        "object.spec.?name.optMap(n, n + '!').value() == 'web!'",
        "optional.none().or(optional.of(1)).value() == 1 && optional.ofNonZeroValue('') == optional.none()",
        "[?object.?nothing, ?object.spec.?name] == ['web'] && {?'a': object.?nothing} == {}",
        "object.spec.list[?7].orValue(0) == 0",
        "'hello'.charAt(1) == 'e' && 'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3",
        "'a,b,c'.split(',') == ['a', 'b', 'c'] && ['a', 'b'].join('-') == 'a-b' && 'abc'.substring(1, 2) == 'b'",
        "'abc'.replace('b', 'x') == 'axc' && ' a '.trim() == 'a' && 'aB'.upperAscii() == 'AB'",
        "'abc'.matches('^[a-c]+$') && 'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'a1'.find('[0-9]') == '1'",
        "'%s has %d (%.2f, %x)'.format([dyn('it'), 3, 1.5, 255]) == 'it has 3 (1.50, ff)'",
        "[1, 2, 3].sum() == 6 && [3, 1].max() == 3 && [1, 2].isSorted() && [1, 2, 1].lastIndexOf(1) == 2",
        "sets.contains([1, 2], [1]) && sets.equivalent([1, 2], [2, 1, 1]) && !sets.intersects([1], [2])",
        "quantity('1Gi').isGreaterThan(quantity('500Mi')) && quantity('1500m').add(quantity('500m')).asInteger() == 2",
        "!isQuantity('1x') && quantity('1').compareTo(quantity('2')) == -1 && quantity('0').sign() == 0",
        "url('https://a.b:80/p?x=1&x=2').getHost() == 'a.b:80' && url('https://a.b:80/').getPort() == '80'",
        "url('https://a/p?x=1&x=2').getQuery()['x'] == ['1', '2'] && !isURL('no') && isURL('/path')",
        "ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.2.3') && !isIP('1.2.3')",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')",
        "cidr('::1/128').prefixLength() == 128 && string(ip('::1')) == '::1' && ip.isCanonical('::1')",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('v1.2', true).minor() == 2 && !isSemver('1.2')",
        "semver('1.0.0-alpha.1').isLessThan(semver('1.0.0'))",
        "!format.dns1123Label().validate('a-b').hasValue() && format.named('uuid').hasValue()",
        "format.dns1123Label().validate('A').value().size() == 1",
        "duration('1h30m').getMinutes() == 90 && duration('1h') + duration('1m') == duration('61m')",
        "timestamp('2024-02-29T12:00:00Z').getMonth() == 1 && timestamp('2024-02-29T12:00:00Z').getDayOfWeek() == 4",
        "timestamp('2024-01-01T00:00:00Z').getHours('+02:00') == 2",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "int('7') == 7 && string(7) == '7' && double(7) == 7.0 && uint(7) == 7u && string(1.5) == '1.5'",
        "type(1) == int && type('a') == string && type([]) == list && type(ip('1.1.1.1')) == net.IP",
        "b'abc'.size() == 3 && 'äö'.size() == 2 && bytes('a') + b'b' == b'ab'",
        "1 / 2 == 0 && -7 % 3 == -1 && [1] + [2] == [1, 2] && (true ? 1 : 2) == 1",
        "object.items.map(i, i.name).join(',') == 'a,b' && object.items.filter(i, i.value > 1)[0].name == 'b'",
        "'\\u00e9' == 'é' && r'\\d' == '\\\\d' && \"\"\"a\"b\"\"\" == 'a\"b'",
        "strings.quote('a\"b') == '\"a\\\\\"b\"' && jsonpatch.escapeKey('a/b~c') == 'a~1b~0c'",
        "dyn(1) != 'a' && null == null && object.?nothing == optional.none()",
    ] {
        assert_eq!(run(expression, &object), Ok(json!(true)), "{expression}");
    }
}

#[test]
fn errors_of_a_run_have_their_words() {
    let object = json!({"spec": {"name": "web", "none": null, "list": [1]}});
    for (expression, message) in [
        ("object.spec.nothing", "no such key: nothing"),
        ("object.spec.list[3] == 1", "index out of bounds: 3"),
        ("object.spec.name > 1", "no such overload"),
        ("1 / (object.spec.list[0] - 1) == 0", "division by zero"),
        ("9223372036854775807 + object.spec.list[0] == 0", "integer overflow"),
        ("int(object.spec.name) == 0", "type conversion error from 'string' to 'int'"),
        ("object.spec.name.substring(9) == ''", "index out of range: 9"),
        ("optional.none().value()", "optional.none() dereference"),
        ("object.spec.none.x == 1", "no such key: x"),
        ("{'a': 1}[object.spec.name] == 1", "no such key: web"),
    ] {
        assert_eq!(run(expression, &object), Err(message.to_owned()), "{expression}");
    }
}

#[derive(Debug)]
struct Sized;

impl ObjectType for Sized {
    fn name(&self) -> &str {
        "object"
    }

    fn field(&self, name: &str) -> Option<Field> {
        let declared = match name {
            "replicas" => Declared::Int,
            "name" => Declared::String { max: Some(40) },
            "items" => {
                Declared::list(Declared::Object(Arc::new(Self)), Some(10), Semantics::Map([Arc::from("name")].into()))
            }
            "set" => Declared::list(Declared::string(), Some(5), Semantics::Set),
            "free" => Declared::list(Declared::string(), None, Semantics::Atomic),
            "a__dash__b" => Declared::Double,
            "when" => Declared::Timestamp,
            "long" => Declared::Duration,
            _ => return None,
        };
        Some(Field { name: unescape(name)?.into(), declared })
    }
}

fn typed() -> Environment {
    Environment::new()
        .variable("self", Declared::Object(Arc::new(Sized)))
        .variable("oldSelf", Declared::Object(Arc::new(Sized)))
}

#[test]
fn what_does_not_check_is_refused_in_kubernetes_s_words() {
    for (expression, message) in [
        ("self.size", "ERROR: <input>:1:5: undefined field 'size'\n | self.size\n | ....^"),
        ("changed", "ERROR: <input>:1:1: undeclared reference to 'changed' (in container '')\n | changed\n | ^"),
        (
            "self.replicas > '1'",
            "ERROR: <input>:1:15: found no matching overload for '_>_' applied to '(int, string)'\n | self.replicas > '1'\n | ..............^",
        ),
        (
            "self.name.startsWith(1)",
            "ERROR: <input>:1:21: found no matching overload for 'startsWith' applied to 'string.(int)'\n | self.name.startsWith(1)\n | ....................^",
        ),
        (
            "self.name.x",
            "ERROR: <input>:1:10: type 'string' does not support field selection\n | self.name.x\n | .........^",
        ),
        (
            "self.replicas && true",
            "ERROR: <input>:1:5: expected type 'bool' but found 'int'\n | self.replicas && true\n | ....^",
        ),
        (
            "[1, 'a'].size() == 2",
            "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a'].size() == 2\n | ....^",
        ),
        (
            "self.replicas.all(x, x)",
            "ERROR: <input>:1:5: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | self.replicas.all(x, x)\n | ....^",
        ),
        ("a b", "ERROR: <input>:1:3: Syntax error: extraneous input 'b' expecting <EOF>\n | a b\n | ..^"),
        ("a b c", "ERROR: <input>:1:3: Syntax error: mismatched input 'b' expecting <EOF>\n | a b c\n | ..^"),
        ("a ? b", "ERROR: <input>:1:6: Syntax error: mismatched input '<EOF>' expecting ':'\n | a ? b\n | .....^"),
        ("'é' é", "ERROR: <input>:1:5: Syntax error: token recognition error at: 'é'\n | 'é' é\n | .．..＾"),
        (
            "Bogus_Value!",
            "ERROR: <input>:1:12: Syntax error: extraneous input '!' expecting <EOF>\n | Bogus_Value!\n | ...........^",
        ),
        (
            "",
            "ERROR: <input>:1:0: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}",
        ),
        (
            "duration('x') == duration('1s')",
            "ERROR: <input>:1:10: invalid duration argument\n | duration('x') == duration('1s')\n | .........^",
        ),
    ] {
        assert_eq!(compile(expression, &typed()).err().as_deref(), Some(message), "{expression}");
    }
    assert!(compile("self.items.all(i, i.items[0].name == self.name)", &typed()).is_ok());
    assert_eq!(compile("self.replicas + 1", &typed()).expect("compiles").result().to_string(), "int");
    assert_eq!(compile("self.free.map(x, size(x))", &typed()).expect("compiles").result().to_string(), "list(int)");
}

#[test]
fn declared_values_are_what_they_are_declared_to_be() {
    let object = json!({
        "a-b": 1, "when": "2024-01-01T00:00:00Z", "long": "1h", "set": ["a", "b"],
        "items": [{"name": "x", "replicas": 1}, {"name": "y", "replicas": 2}],
    });
    let old = json!({"set": ["b", "a"], "items": [{"name": "y", "replicas": 2}, {"name": "x", "replicas": 1}]});
    let environment = typed();
    for expression in [
        "self.a__dash__b == 1.0 && type(self.a__dash__b) == double",
        "self.when.getFullYear() == 2024 && self.long == duration('60m')",
        "self.set == oldSelf.set && self.items == oldSelf.items",
        "self.set + ['b', 'c'] == ['a', 'b', 'c']",
        "self.items.map(i, i.name) != oldSelf.items.map(i, i.name)",
        "!has(self.replicas) && has(self.items[0].replicas)",
    ] {
        let program = compile(expression, &environment).expect(expression);
        let bindings = Bindings::new().json("self", &object, &environment).json("oldSelf", &old, &environment);
        let value = program.evaluate(&bindings).value;
        assert!(matches!(value, Ok(Value::Bool(true))), "{expression}: {value:?}");
    }
}

#[test]
fn hostile_expressions_are_bounded() {
    let limit = "expression recursion limit exceeded: 250";
    for deep in ["(".repeat(10_000), vec!["a"; 5_000].join("."), vec!["1"; 5_000].join("+"), "[".repeat(5_000)] {
        let error = compile(&deep, &environment()).expect_err("too deep");
        assert!(error.contains(limit), "{error}");
    }
    for deep in [format!("{}1{} == 1", "(".repeat(200), ")".repeat(200)), vec!["1"; 200].join("+") + " > 0"] {
        assert_eq!(run(&deep, &json!({})), Ok(json!(true)));
    }
    assert!(compile(&"a".repeat(200_000), &environment()).expect_err("too long").contains("code point size exceeds"));
    // As many terms as fit: these are lists of terms, not chains.
    let wide = vec!["object.a == 1"; 2_000].join(" || ");
    assert_eq!(run(&wide, &json!({"a": 1})), Ok(json!(true)));

    let numbers = json!({"n": (0..200).collect::<Vec<i32>>()});
    let cubed = "object.n.all(a, object.n.all(b, object.n.all(c, a + b + c >= 0)))";
    assert_eq!(run(cubed, &numbers), Err("operation cancelled: actual cost limit exceeded".to_owned()));
    // Nothing makes up for that.
    assert_eq!(
        run(&format!("{cubed} || true"), &numbers),
        Err("operation cancelled: actual cost limit exceeded".to_owned())
    );
    let big = json!({"s": "a".repeat(100_000)});
    assert!(
        run("object.s.replace('a', object.s).size() > 0", &big).expect_err("too large").contains("exceeds the limit")
    );
    assert!(run("object.s.matches('(a*)*b')", &big).is_ok());
}

#[test]
fn costs_are_counted() {
    let environment = environment();
    let object = json!({"list": [1, 2, 3], "name": "web"});
    for (expression, cost) in [
        ("true", 0),
        ("object.name == 'web'", 3),
        ("object.list.all(x, x > 0)", 2 + 3 * (2 + 1 + 2) + 1),
        ("object.name.matches('^w')", 2 + 1),
        ("authorizer.group('').resource('pods').check('get').allowed()", 1 + 1 + 1 + 350_000 + 1),
    ] {
        let program = compile(expression, &environment).expect(expression);
        let answers = Yes;
        let bindings = Bindings::new().json("object", &object, &environment).authorizer(&answers, Question::default());
        let evaluation = program.evaluate(&bindings);
        assert!(evaluation.value.is_ok(), "{expression}: {:?}", evaluation.value);
        assert_eq!(evaluation.cost, cost, "{expression}");
    }
}

struct Yes;

impl Authorizer for Yes {
    fn decide(&self, question: &Question) -> Option<Decision> {
        Some(Decision { allowed: question.verb == "get", ..Decision::default() })
    }
}

struct Silent;

impl Authorizer for Silent {
    fn decide(&self, _: &Question) -> Option<Decision> {
        None
    }
}

#[test]
fn the_authorizer_is_asked() {
    let environment = environment();
    let program = compile(
        "authorizer.group('apps').resource('deployments').subresource('scale').namespace('a').name('b').check('get').allowed()
            && !authorizer.path('/healthz').check('post').allowed()
            && authorizer.requestResource.check('get').allowed()
            && !authorizer.serviceAccount('ns', 'sa').group('').resource('pods').check('list').errored()",
        &environment,
    )
    .expect("compiles");
    let bindings = Bindings::new().authorizer(&Yes, Question::default());
    let value = program.evaluate(&bindings).value;
    assert_eq!(value.expect_err("five checks").kind, FailureKind::Cost);
    let program = compile("authorizer.path('/x').check('get').allowed() || true", &environment).expect("compiles");
    let bindings = Bindings::new().authorizer(&Silent, Question::default());
    assert_eq!(program.evaluate(&bindings).value.expect_err("pending").kind, FailureKind::Pending);
}

#[test]
fn estimates_follow_the_bounds() {
    let environment = typed();
    let estimate = |expression: &str| compile(expression, &environment).expect(expression).estimate(&environment).max;
    assert_eq!(estimate("self.replicas > 0"), 3);
    assert_eq!(estimate("self.name == 'web'"), 3);
    assert!(estimate("self.items.all(i, i.replicas > 0)") < 100);
    assert!(estimate("self.items.all(i, self.items.all(j, i.name != j.name || i == j))") < 10_000);
    assert!(estimate("self.free.all(x, self.free.all(y, x != y))") > ESTIMATE_LIMIT);
    assert!(estimate("self.free.all(x, x.contains('abc'))") > ESTIMATE_LIMIT);
}

/// What a real server says of such expressions.
#[test]
fn lists_are_made_of_lists() {
    let object = json!({ "n": [3, 1, 2, 3], "items": [{ "name": "b", "n": 2 }, { "name": "a", "n": 1 }] });
    for expression in [
        "lists.range(4) == [0, 1, 2, 3] && lists.range(0) == []",
        "object.n.sort() == [1, 2, 3, 3] && ['b', 'a'].sort() == ['a', 'b'] && [2.0, 1.5].sort() == [1.5, 2.0]",
        "object.items.sortBy(i, i.name).map(i, i.n) == [1, 2] && [1, 2, 3].sortBy(n, -n) == [3, 2, 1]",
        "object.n.distinct() == [3, 1, 2] && object.n.reverse() == [3, 2, 1, 3] && object.n.slice(1, 3) == [1, 2]",
        "[[1], [2, 3]].flatten() == [1, 2, 3] && [[[1]], [[2]]].flatten(2) == [1, 2] && dyn([1, 2]).flatten() == [1, 2]",
        "[1, 2].first().value() == 1 && [].last() == optional.none()",
    ] {
        assert_eq!(run(expression, &object), Ok(json!(true)), "{expression}");
    }
    for (expression, message) in [
        ("[1, 2].slice(2, 1)", "cannot slice(2, 1), start index must be less than or equal to end index"),
        ("[1, 2].slice(-1, 1)", "cannot slice(-1, 1), negative indexes not supported"),
        ("[1, 2].slice(0, 3)", "cannot slice(0, 3), list is length 2"),
        ("[1].flatten(-1)", "level must be non-negative"),
        ("[dyn({})].sort()", "list elements must be comparable"),
        ("dyn([dyn(1), dyn('a')]).sort()", "list elements must have the same type"),
        ("[1, 2][dyn('')]", "unsupported index type 'string' in list"),
        ("[1, 2][dyn(0.1)]", "unsupported index value 0.1 in list"),
        ("null < null", "no such overload: _<_"),
        ("dyn([]) - dyn([])", "no such overload: _-_"),
        ("dyn(1) < dyn('a')", "no such overload"),
        (
            "ip('1.2.3.4.5').family()",
            "IP Address \"1.2.3.4.5\" parse error during conversion from string: ParseAddr(\"1.2.3.4.5\"): IPv4 address too long",
        ),
        (
            "ip('::1::').family()",
            "IP Address \"::1::\" parse error during conversion from string: ParseAddr(\"::1::\"): multiple :: in address (at \":\")",
        ),
        (
            "cidr('10.0.0.0/99').ip()",
            "network address parse error during conversion from string: network address parse error during conversion from string: netip.ParsePrefix(\"10.0.0.0/99\"): prefix length out of range",
        ),
    ] {
        assert_eq!(run(expression, &object), Err(message.to_owned()), "{expression}");
    }
}

#[test]
fn values_are_written_as_kubernetes_writes_them() {
    for (expression, text) in [
        ("'%s'.format([{'b': ['x', b'y'], 'a': 1.5}])", "{\"a\":1.500000, \"b\":[\"x\", b\"y\"]}"),
        ("'%s %s'.format([1e12, 0.5])", "1e+12 0.5"),
        ("'%f %.2f'.format([1234567.5, -1234.5])", "1,234,567.500000 -1,234.50"),
        ("'%e'.format([0.00015])", "1.500000×10⁻⁰⁴"),
        ("'%f %f'.format(['Infinity', double('NaN')])", "∞ NaN"),
        (
            "'%s'.format([[duration('1m'), timestamp('2020-01-01T00:00:00+01:00')]])",
            "[duration(\"60s\"), timestamp(\"2020-01-01T00:00:00+01:00\")]",
        ),
        ("string(timestamp('9999-12-31T23:59:59.999999999Z'))", "9999-12-31T23:59:59.999999999Z"),
        ("string('ta©o©αT'.lastIndexOf('©', 3)) + string('abc'.indexOf('b', 9))", "2-1"),
        ("string(timestamp('2023-12-31T23:00:00Z').getFullYear('Europe/Berlin'))", "2024"),
    ] {
        assert_eq!(run(expression, &json!({})), Ok(json!(text)), "{expression}");
    }
}

#[test]
fn what_is_wrong_is_said_as_kubernetes_says_it() {
    for (expression, errors) in [
        ("[1, 'a', 2u]", "1:5: expected type 'int' but found 'string'"),
        ("{'a': 1, 'b': 'x'}", "1:15: expected type 'int' but found 'string'"),
        ("'a' in [1, 'a']", "1:12: expected type 'int' but found 'string'"),
        (
            "'%d'.format(['a'])",
            "1:14: error during formatting: decimal clause can only be used on integers, was given string",
        ),
        ("'%s %s'.format(['a'])", "1:15: index 1 out of range"),
        ("'x'.format([1])", "1:11: too many arguments supplied to string.format (expected 0, got 1)"),
        ("'%5d'.format([1])", "1:13: could not parse formatting clause: unrecognized formatting clause \"5\""),
        ("[1].map(a.b, 1)", "1:10: argument is not an identifier"),
        ("[1].all(a.b, true)", "1:10: argument must be a simple name"),
        ("'☺'.reverse()", "1:12: found no matching overload for 'reverse' applied to 'string.()'"),
        ("object.`a`", "1:8: unsupported syntax: '`'"),
        ("object.true", "1:8: Syntax error: mismatched input 'true' expecting IDENTIFIER"),
        ("size(object object object)", "1:13: Syntax error: mismatched input 'object' expecting ')'"),
        ("[object object object]", "1:9: Syntax error: mismatched input 'object' expecting {']', ','}"),
        ("object object object", "1:8: Syntax error: mismatched input 'object' expecting <EOF>"),
        ("kubernetes.URL", "1:1: undeclared reference to 'kubernetes' (in container '')"),
        ("timestamp(-62135596801)", "1:11: invalid timestamp argument"),
    ] {
        let error = compile(expression, &environment()).expect_err(expression);
        let lines: Vec<&str> = error.lines().filter_map(|line| line.strip_prefix("ERROR: <input>:")).collect();
        assert_eq!(lines.join("; "), errors, "{expression}");
    }
    for (expression, error) in [
        ("int(1e99)", "integer overflow"),
        ("uint(-1)", "unsigned integer overflow"),
        ("bool('TrUe')", "type conversion error from 'string' to 'bool'"),
        ("object.a.find('(')", "error parsing regexp: missing closing ): `(`"),
    ] {
        let program = compile(expression, &environment()).expect(expression);
        assert_eq!(program.prepare(), Err(error.to_owned()), "{expression}");
    }
}
