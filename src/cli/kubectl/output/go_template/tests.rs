//! What kubectl prints of the same templates.

use super::*;
use serde_json::json;

fn object() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": { "a": "<b>", "c": "d" },
        "metadata": { "name": "a", "creationTimestamp": null, "list": [1, 2.5, true] },
    })
}

fn print(text: &str) -> std::result::Result<String, String> {
    Template::parse(text)?.print(&object(), false).map_err(|(_, error)| error)
}

#[test]
fn templates_print() {
    for (text, printed) in [
        (
            "{{.}}",
            "map[apiVersion:v1 data:map[a:<b> c:d] kind:ConfigMap metadata:map[creationTimestamp:<nil> list:[1 2.5 true] name:a]]",
        ),
        ("{{.metadata.nope.x}}{{.metadata.creationTimestamp}}", "<no value><no value>"),
        ("{{range $k,$v := .data}}{{$k}}={{$v}};{{end}}", "a=<b>;c=d;"),
        ("{{range $i, $e := .metadata.list}}{{if $i}},{{end}}{{$e}}{{end}}", "1,2.5,true"),
        ("{{range .nope}}a{{else}}e{{end}}{{range 3}}{{.}}{{end}}", "e012"),
        ("{{range 4}}{{if eq . 1}}{{continue}}{{end}}{{.}}{{if eq . 2}}{{break}}{{end}}{{end}}", "02"),
        ("{{printf \"%s-%d %v %q\" .metadata.name 3 .data .kind}}", "a-3 map[a:<b> c:d] \"ConfigMap\""),
        ("{{printf \"%5d|%-5s|%05.1f|%x|%t|%c|%%\" 42 \"a\" 2.25 255 true 'b'}}", "   42|a    |002.2|ff|true|b|%"),
        ("{{printf \"%d %s\" \"a\"}}", "%!d(string=a) %!s(MISSING)"),
        ("{{index .data \"a\"}}{{len .data}}{{index .data \"zz\"}}{{index .metadata.list 1}}", "<b>2<no value>2.5"),
        ("{{if and .data (eq .kind \"ConfigMap\")}}y{{else}}n{{end}}", "y"),
        ("{{if .nope}}a{{else if .kind}}b{{else}}c{{end}}", "b"),
        ("{{with .nope}}a{{else}}b{{end}}{{with .data}}{{.c}}{{$.kind}}{{end}}", "bdConfigMap"),
        ("{{ \"YQ==\" | base64decode }}{{exists . \"data\" \"a\"}}{{exists . \"data\" \"z\"}}", "atruefalse"),
        ("a {{- /* c */ -}} x {{- 1.5 }} \n {{- \"z\" -}} \n y", "ax1.5zy"),
        (
            "{{slice .kind 1 3}} {{1 | printf \"%05d\"}} {{print 1 2 \"a\" 3}} {{println 1 \"a\"}}",
            "on 00001 1 2a3 1 a\n",
        ),
        ("{{define \"x\"}}[{{.}}]{{end}}{{template \"x\" .kind}}{{block \"y\" 1}}({{.}}){{end}}", "[ConfigMap](1)"),
        (
            "{{\"a\" | len}} {{not true}} {{html \"<a>\"}} {{js \"a\\\"b\"}} {{urlquery \"a b&c\"}}",
            "1 false &lt;a&gt; a\\\"b a+b%26c",
        ),
        (
            "{{eq 1 2 1}} {{lt 1 2}} {{ge \"b\" \"a\"}} {{ne .kind \"x\"}} {{or .nope .kind}}",
            "true true true true ConfigMap",
        ),
        ("{{$x := .kind}}{{if true}}{{$x = \"z\"}}{{end}}{{$x}}{{(index .metadata.list 0)}}{{(.data).c}}", "z1d"),
        ("{{`a\\n`}}{{\"a\\tb\"}}{{'a'}} {{0x10}} {{-1}} {{1e3}} {{true}}", "a\\na\tb97 16 -1 1000 true"),
    ] {
        assert_eq!(print(text).as_deref(), Ok(printed), "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let executing = |place: &str, text: &str, what: &str| {
        format!("template: output:{place}: executing \"output\" at <{text}>: {what}")
    };
    for (text, error) in [
        ("{{nope}}", "template: output:1: function \"nope\" not defined".to_owned()),
        ("\n{{.data", "template: output:2: unclosed action".to_owned()),
        ("{{if .a}}", "template: output:1: unexpected EOF".to_owned()),
        ("{{end}}", "template: output:1: unexpected {{end}}".to_owned()),
        ("{{$x}}", "template: output:1: undefined variable \"$x\"".to_owned()),
        ("{{.metadata.name.x}}", executing("1:11", ".metadata.name.x", "can't evaluate field x in type interface {}")),
        (
            "{{.metadata.creationTimestamp.x}}",
            executing("1:11", ".metadata.creationTimestamp.x", "nil pointer evaluating interface {}.x"),
        ),
        ("{{nil}}", executing("1:2", "nil", "nil is not a command")),
        ("{{.kind 1}}", executing("1:2", ".kind", "can't give argument to non-function .kind")),
        ("{{range .kind}}{{end}}", executing("1:8", ".kind", "range can't iterate over ConfigMap")),
        (
            "{{index .metadata.list 9}}",
            executing("1:2", "index .metadata.list 9", "error calling index: index out of range: 9"),
        ),
        ("{{lt 1 \"a\"}}", executing("1:2", "lt 1 \"a\"", "error calling lt: incompatible types for comparison")),
        ("{{len}}", executing("1:2", "len", "wrong number of args for len: want 1 got 0")),
    ] {
        assert_eq!(print(text), Err(error), "{text}");
    }
    let strict = Template::parse("a{{.nope}}").expect("a template").print(&object(), true);
    let error = executing("1:3", ".nope", "map has no entry for key \"nope\"");
    assert_eq!(strict, Err(("a".to_owned(), error)));
    let endless = Template::parse("{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}").expect("a template");
    assert!(endless.print(&object(), false).is_err());
}

proptest::proptest! {
    #[test]
    fn any_text_is_a_template_or_is_refused(text in "(\\{\\{-?|-?\\}\\}|[ .$a|()\"`0-9,:=]|if |end|range |else|with ){0,24}") {
        if let Ok(template) = Template::parse(&text) {
            let _ = template.print(&object(), false);
        }
    }
}
