//! The macros of Kubernetes's environment: the standard ones, comprehensions of two variables, and
//! `optMap` and `optFlatMap`. All are written out here, so that nothing of the crate's own run time
//! is linked.

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, operators};
use cel::parser::{Macro, MacroExprHelper, ParseError};

/// What the variable that a comprehension adds up is called.
pub(super) const ACCUMULATOR: &str = "@result";
/// The function that adds entries to a map.
pub(super) const MAP_INSERT: &str = "cel.@mapInsert";

/// Of what is no variable.
const SIMPLE: &str = "argument must be a simple name";

type Expansion = Result<Option<IdedExpr>, ParseError>;

pub(super) fn environment() -> cel::Env {
    let mut environment = cel::Env::default();
    let quantifiers = [("all", Quantifier::All), ("exists", Quantifier::Exists), ("exists_one", Quantifier::ExistsOne)];
    let transforms =
        [("transformList", Transform::List), ("transformMap", Transform::Map), ("transformMapEntry", Transform::Entry)];
    let mut macros = vec![
        Macro::global("has", 1, |h, _, a| has(h, a)),
        Macro::receiver("map", 2, |h, t, a| collect(h, t, a, true)),
        Macro::receiver("map", 3, |h, t, a| collect(h, t, a, true)),
        Macro::receiver("filter", 2, |h, t, a| collect(h, t, a, false)),
        Macro::receiver("optMap", 2, |h, t, a| optional(h, t, a, true)),
        Macro::receiver("optFlatMap", 2, |h, t, a| optional(h, t, a, false)),
    ];
    for (name, kind) in quantifiers {
        macros.push(Macro::receiver(name, 2, move |h, t, a| quantifier(h, t, a, kind)));
        macros.push(Macro::receiver(name, 3, move |h, t, a| quantifier(h, t, a, kind)));
    }
    macros.push(Macro::receiver("existsOne", 3, |h, t, a| quantifier(h, t, a, Quantifier::ExistsOne)));
    macros.push(Macro::receiver("sortBy", 2, sort_by));
    for (name, kind) in transforms {
        macros.push(Macro::receiver(name, 3, move |h, t, a| transform(h, t, a, kind)));
        macros.push(Macro::receiver(name, 4, move |h, t, a| transform(h, t, a, kind)));
    }
    for one in macros {
        environment.add_macro(one).expect("no macro has the same name and arguments");
    }
    environment
}

fn has(h: &mut MacroExprHelper, args: &mut Vec<IdedExpr>) -> Expansion {
    match args.pop() {
        Some(IdedExpr { expr: Expr::Select(mut select), .. }) => {
            select.test = true;
            Ok(Some(h.next_expr(Expr::Select(select))))
        }
        other => Err(h.new_error(other.map_or(0, |arg| arg.id), "invalid argument to has() macro")),
    }
}

/// `map(v, e)`, `map(v, p, e)` and `filter(v, p)`.
fn collect(h: &mut MacroExprHelper, target: &mut Option<IdedExpr>, args: &mut Vec<IdedExpr>, map: bool) -> Expansion {
    let name = variable(h, &args[0], "argument is not an identifier")?;
    let (Some(last), Some(range)) = (args.pop(), target.take()) else { return Ok(None) };
    let (item, filter) = if map {
        let filter = if args.len() == 2 { args.pop() } else { None };
        (last, filter)
    } else {
        (h.next_expr(Expr::Ident(name.clone())), Some(last))
    };
    let current = accumulator(h);
    let item = h.next_expr(Expr::List(ListExpr::new(vec![item])));
    let step = call(h, operators::ADD, vec![current, item]);
    let step = filtered(h, filter, step);
    let init = h.next_expr(Expr::List(ListExpr::default()));
    let condition = literal(h, LiteralValue::Boolean(true.into()));
    let result = accumulator(h);
    Ok(Some(fold(h, range, (name, None), ACCUMULATOR, init, condition, step, result)))
}

/// The list under a name, and with it what `map` makes of it to sort by.
fn sort_by(h: &mut MacroExprHelper, target: &mut Option<IdedExpr>, args: &mut Vec<IdedExpr>) -> Expansion {
    const NAME: &str = "@__sortBy_input__";
    let Some(list) = target.take() else { return Ok(None) };
    if matches!(list.expr, Expr::Literal(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified) {
        let what = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
        return Err(h.new_error(list.id, what));
    }
    let named = h.next_expr(Expr::Ident(NAME.to_owned()));
    let Some(keys) = collect(h, &mut Some(named), args, true)? else { return Ok(None) };
    let named = h.next_expr(Expr::Ident(NAME.to_owned()));
    let sorted = member(h, named, "@sortByAssociatedKeys", vec![keys]);
    let range = h.next_expr(Expr::List(ListExpr::default()));
    let condition = literal(h, LiteralValue::Boolean(false.into()));
    let step = h.next_expr(Expr::Ident(NAME.to_owned()));
    Ok(Some(fold(h, range, ("#unused".to_owned(), None), NAME, list, condition, step, sorted)))
}

fn filtered(h: &mut MacroExprHelper, filter: Option<IdedExpr>, step: IdedExpr) -> IdedExpr {
    match filter {
        Some(filter) => {
            let current = accumulator(h);
            call(h, operators::CONDITIONAL, vec![filter, step, current])
        }
        None => step,
    }
}

#[derive(Clone, Copy)]
enum Quantifier {
    All,
    Exists,
    ExistsOne,
}

#[derive(Clone, Copy)]
enum Transform {
    List,
    Map,
    Entry,
}

fn quantifier(
    h: &mut MacroExprHelper,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
    quantifier: Quantifier,
) -> Expansion {
    let (first, second) = if args.len() == 3 {
        let (first, second) = variables(h, args)?;
        (first, Some(second))
    } else {
        (variable(h, &args[0], SIMPLE)?, None)
    };
    let (Some(predicate), Some(range)) = (args.pop(), target.take()) else { return Ok(None) };
    let result = accumulator(h);
    let (init, condition, step, result) = match quantifier {
        Quantifier::All => {
            let current = accumulator(h);
            let condition = call(h, operators::NOT_STRICTLY_FALSE, vec![current]);
            let current = accumulator(h);
            let step = call(h, operators::LOGICAL_AND, vec![current, predicate]);
            (literal(h, LiteralValue::Boolean(true.into())), condition, step, result)
        }
        Quantifier::Exists => {
            let current = accumulator(h);
            let not = call(h, operators::LOGICAL_NOT, vec![current]);
            let condition = call(h, operators::NOT_STRICTLY_FALSE, vec![not]);
            let current = accumulator(h);
            let step = call(h, operators::LOGICAL_OR, vec![current, predicate]);
            (literal(h, LiteralValue::Boolean(false.into())), condition, step, result)
        }
        Quantifier::ExistsOne => {
            let condition = literal(h, LiteralValue::Boolean(true.into()));
            let (current, one) = (accumulator(h), literal(h, LiteralValue::Int(1.into())));
            let more = call(h, operators::ADD, vec![current, one]);
            let current = accumulator(h);
            let step = call(h, operators::CONDITIONAL, vec![predicate, more, current]);
            let one = literal(h, LiteralValue::Int(1.into()));
            let result = call(h, operators::EQUALS, vec![result, one]);
            (literal(h, LiteralValue::Int(0.into())), condition, step, result)
        }
    };
    Ok(Some(fold(h, range, (first, second), ACCUMULATOR, init, condition, step, result)))
}

fn transform(
    h: &mut MacroExprHelper,
    target: &mut Option<IdedExpr>,
    args: &mut Vec<IdedExpr>,
    transform: Transform,
) -> Expansion {
    let (first, second) = variables(h, args)?;
    let (Some(made), Some(range)) = (args.pop(), target.take()) else { return Ok(None) };
    let filter = if args.len() == 3 { args.pop() } else { None };
    let current = accumulator(h);
    let (init, step) = match transform {
        Transform::List => {
            let item = h.next_expr(Expr::List(ListExpr::new(vec![made])));
            (h.next_expr(Expr::List(ListExpr::default())), call(h, operators::ADD, vec![current, item]))
        }
        Transform::Map => {
            let key = h.next_expr(Expr::Ident(first.clone()));
            (h.next_expr(Expr::Map(MapExpr::default())), call(h, MAP_INSERT, vec![current, key, made]))
        }
        Transform::Entry => (h.next_expr(Expr::Map(MapExpr::default())), call(h, MAP_INSERT, vec![current, made])),
    };
    let step = filtered(h, filter, step);
    let condition = literal(h, LiteralValue::Boolean(true.into()));
    let result = accumulator(h);
    Ok(Some(fold(h, range, (first, Some(second)), ACCUMULATOR, init, condition, step, result)))
}

/// `t.hasValue() ? optional.of(<e with v = t.value()>) : optional.none()`.
fn optional(h: &mut MacroExprHelper, target: &mut Option<IdedExpr>, args: &mut Vec<IdedExpr>, wrap: bool) -> Expansion {
    let name = match &args[0].expr {
        Expr::Ident(name) => name.clone(),
        _ => {
            let what = if wrap { "optMap" } else { "optFlatMap" };
            return Err(h.new_error(args[0].id, format!("{what}() variable name must be a simple identifier")));
        }
    };
    let (Some(made), Some(target)) = (args.pop(), target.take()) else { return Ok(None) };
    let has = member(h, target.clone(), "hasValue", Vec::new());
    let value = member(h, target, "value", Vec::new());
    let range = h.next_expr(Expr::List(ListExpr::default()));
    let condition = literal(h, LiteralValue::Boolean(false.into()));
    let step = h.next_expr(Expr::Ident(name.clone()));
    let bound = fold(h, range, ("#unused".to_owned(), None), &name, value, condition, step, made);
    let root = h.next_expr(Expr::Ident("optional".to_owned()));
    let some = if wrap { member(h, root.clone(), "of", vec![bound]) } else { bound };
    let none = member(h, root, "none", Vec::new());
    Ok(Some(call(h, operators::CONDITIONAL, vec![has, some, none])))
}

/// The names of the two variables, which must differ.
fn variables(h: &mut MacroExprHelper, args: &[IdedExpr]) -> Result<(String, String), ParseError> {
    let first = variable(h, &args[0], SIMPLE)?;
    let second = variable(h, &args[1], SIMPLE)?;
    if first == second {
        return Err(h.new_error(args[1].id, format!("duplicate variable name: {first}")));
    }
    Ok((first, second))
}

fn variable(h: &mut MacroExprHelper, arg: &IdedExpr, otherwise: &str) -> Result<String, ParseError> {
    match &arg.expr {
        Expr::Ident(name) if name == ACCUMULATOR || name == "__result__" => {
            Err(h.new_error(arg.id, "iteration variable overwrites accumulator variable"))
        }
        Expr::Ident(name) => Ok(name.clone()),
        _ => Err(h.new_error(arg.id, otherwise)),
    }
}

fn accumulator(h: &mut MacroExprHelper) -> IdedExpr {
    h.next_expr(Expr::Ident(ACCUMULATOR.to_owned()))
}

fn literal(h: &mut MacroExprHelper, value: LiteralValue) -> IdedExpr {
    h.next_expr(Expr::Literal(value))
}

fn call(h: &mut MacroExprHelper, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    h.next_expr(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
}

fn member(h: &mut MacroExprHelper, target: IdedExpr, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    h.next_expr(Expr::Call(CallExpr { func_name: name.to_owned(), target: Some(Box::new(target)), args }))
}

#[expect(clippy::too_many_arguments, reason = "the parts of a comprehension, in their order")]
fn fold(
    h: &mut MacroExprHelper,
    iter_range: IdedExpr,
    (iter_var, iter_var2): (String, Option<String>),
    accumulator: &str,
    accu_init: IdedExpr,
    loop_cond: IdedExpr,
    loop_step: IdedExpr,
    result: IdedExpr,
) -> IdedExpr {
    let accu_var = accumulator.to_owned();
    h.next_expr(Expr::Comprehension(Box::new(ComprehensionExpr {
        iter_range,
        iter_var,
        iter_var2,
        accu_var,
        accu_init,
        loop_cond,
        loop_step,
        result,
    })))
}
