//! What the C headers declare: functions with their parameters, callbacks, types, constants. Reads the
//! project's own headers, not C at large.

use std::collections::{BTreeMap, BTreeSet};

/// A function, a callback or a routine of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Function {
    /// The type of its result, if that can be an error.
    pub(super) result: Option<&'static str>,
    /// Its parameters as they are written.
    pub(super) parameters: Vec<String>,
}

impl Function {
    fn new(result: &str, parameters: Vec<String>) -> Self {
        let words: Vec<_> = result.split_whitespace().collect();
        Self {
            result: RESULTS.into_iter().find(|of| words.contains(of)),
            parameters,
        }
    }
}

/// Everything that a program can name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Declarations {
    pub(super) functions: BTreeMap<String, Function>,
    pub(super) callbacks: BTreeMap<String, Function>,
    pub(super) types: BTreeSet<String>,
    /// Members of enumerations, GUIDs, and macros of any kind.
    pub(super) constants: BTreeSet<String>,
}

/// What stands between a function's result and its name, and a callback's and its `*`.
const CONVENTIONS: [&str; 4] = ["WINAPI", "CALLBACK", "STDMETHODCALLTYPE", "NTAPI"];
/// Types of results that can be errors.
const RESULTS: [&str; 2] = ["HRESULT", "NTSTATUS"];
/// What a header's guard ends with.
const GUARD: &str = "_H";
/// What defines a GUID.
const GUID: &str = "DEFINE_GUID";
/// What begins an enumeration.
const ENUM: &str = "OPENHDV_ENUM";

impl Declarations {
    /// Adds what a header declares.
    pub(super) fn read(&mut self, header: &str) {
        let code = self.macros(&without_comments(header));
        for statement in statements(&code) {
            self.statement(&statement);
        }
    }

    /// Every name.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let functions = self.functions.keys().chain(self.callbacks.keys());
        functions
            .chain(&self.types)
            .chain(&self.constants)
            .map(String::as_str)
    }

    /// Takes the macros; what is left without preprocessor lines.
    fn macros(&mut self, code: &str) -> String {
        let mut rest = String::new();
        for line in code.replace("\\\n", " ").lines() {
            let Some(directive) = line.trim_start().strip_prefix('#') else {
                rest.push_str(line);
                rest.push('\n');
                continue;
            };
            if let Some(definition) = directive.trim_start().strip_prefix("define ") {
                let name = identifier(definition.trim_start());
                if !name.ends_with(GUARD) {
                    self.constants.insert(name.to_owned());
                }
            }
        }
        rest
    }

    fn statement(&mut self, statement: &str) {
        // Bodies of functions, and macros that stand alone, have no semicolon after them.
        let begin = [GUID, "typedef "]
            .iter()
            .filter_map(|word| statement.find(word))
            .min();
        let statement = statement[begin.unwrap_or(0)..].trim();
        if let Some(definition) = statement.strip_prefix(GUID) {
            let name = identifier(definition.trim_start_matches(['(', ' ']));
            self.constants.insert(name.to_owned());
        } else if let Some(definition) = statement.strip_prefix("typedef") {
            self.typedef(definition);
        } else if let Some((result, name, parameters)) = function(statement) {
            let declared = Function::new(result, parameters);
            self.functions.insert(name.to_owned(), declared);
        }
    }

    fn typedef(&mut self, definition: &str) {
        if let Some((body, declarators)) = braced(definition) {
            if definition.trim_start().starts_with(ENUM) {
                let members = body.split(',').map(|member| identifier(member.trim()));
                self.constants
                    .extend(members.filter(|name| !name.is_empty()).map(str::to_owned));
            }
            let names = declarators
                .split(',')
                .map(|name| identifier(name.trim().trim_start_matches('*')));
            self.types
                .extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
            return;
        }
        if let Some((result, name, parameters)) =
            callback(definition).or_else(|| function(definition))
        {
            let declared = Function::new(result, parameters);
            self.callbacks.insert(name.to_owned(), declared);
            return;
        }
        let name = definition
            .rsplit(|character: char| !is_word(character))
            .find(|word| !word.is_empty());
        self.types.extend(name.map(str::to_owned));
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// The identifier that text begins with.
fn identifier(text: &str) -> &str {
    let end = text
        .find(|character| !is_word(character))
        .unwrap_or(text.len());
    &text[..end]
}

fn without_comments(text: &str) -> String {
    let mut rest = text;
    let mut code = String::new();
    while let Some((before, comment)) = rest.split_once("/*") {
        code.push_str(before);
        code.push(' ');
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    code.push_str(rest);
    code
}

/// Statements at file level; those within `extern "C"` and namespaces of braces too.
fn statements(code: &str) -> Vec<String> {
    let code = code.replace("extern \"C\" {", "");
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut statement = String::new();
    for character in code.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => {
                found.push(std::mem::take(&mut statement));
                continue;
            }
            _ => {}
        }
        statement.push(character);
    }
    found
}

/// The text between the first brace and its partner, and what follows.
fn braced(text: &str) -> Option<(&str, &str)> {
    let begin = text.find('{')?;
    let end = text.rfind('}')?;
    Some((&text[begin + 1..end], &text[end + 1..]))
}

/// `RESULT WINAPI NAME(PARAMETERS)`, a function or, in a type definition, a routine's type.
fn function(statement: &str) -> Option<(&str, &str, Vec<String>)> {
    let open = statement.find('(')?;
    let head = &statement[..open];
    let (result, name) = CONVENTIONS
        .iter()
        .find_map(|convention| head.rsplit_once(&format!(" {convention} ")))?;
    let parameters = statement[open + 1..].strip_suffix(')')?;
    Some((result, identifier(name.trim()), split(parameters)))
}

/// `RESULT(CALLBACK* NAME)(PARAMETERS)`.
fn callback(definition: &str) -> Option<(&str, &str, Vec<String>)> {
    let (result, rest) = CONVENTIONS
        .iter()
        .find_map(|convention| definition.split_once(&format!("({convention}*")))?;
    let (name, rest) = rest.split_once(')')?;
    let parameters = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
    Some((result, name.trim(), split(parameters)))
}

/// Parameters; the commas within marks are none between parameters.
fn split(parameters: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut depth = 0_usize;
    for character in parameters.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = found.last_mut() {
            last.push(character);
        }
    }
    found
        .iter()
        .map(|parameter| parameter.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|parameter| !parameter.is_empty() && parameter != "void")
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = r#"
/* A header; with a statement in its comment: int x(void); */
#ifndef OPENHDV_TEST_H
#define OPENHDV_TEST_H
#define HDV_COUNT 6
#define MACRO(x) \
    ((x) + 1)
#ifdef __cplusplus
extern "C" {
#endif
typedef void* HDV_HOST;
typedef OPENHDV_ENUM(HDV_KIND) {
    HdvKindNone = 0,
    /* Explained. */
    HdvKindSome = (-2147483647 - 1)
} HDV_KIND;
typedef struct HDV_ID {
    UINT16 VendorID;
} HDV_ID, *PHDV_ID;
typedef HRESULT(CALLBACK* HDV_START)(_In_opt_ void* DeviceContext, _Out_writes_(a, b) UINT32* X);
typedef void(CALLBACK* HDV_STOP)(_In_opt_ void* DeviceContext);
HRESULT WINAPI HdvDo(_In_ HDV_HOST Host,
                     _Out_ UINT64* Out);
void WINAPI HdvForget(void);
typedef NTSTATUS NTAPI GET_PLACE(_In_opt_ PVOID Context, _Out_ PUINT8 Bus);
typedef GET_PLACE* PGET_PLACE;
typedef VOID(NTAPI* PCOUNT)(_In_opt_ PVOID Context);
#ifdef __cplusplus
}
OPENHDV_ENUM_FLAG_OPERATORS(HDV_KIND)
inline bool equal(int left, int right)
{
    return left == right;
}
struct IThing : public IUnknown {
    virtual HRESULT STDMETHODCALLTYPE Get(REFGUID DeviceClassId) = 0;
};
#else
inline bool other(int left) { return left == 0; }
typedef struct IThing IThing;
#endif
#ifdef __cplusplus
OPENHDV_ENUM_FLAG_OPERATORS(HDV_KIND)
#endif
DEFINE_GUID(IID_IThing, 0x1, 0x2,
            0x3);
#endif
"#;

    #[test]
    fn every_declaration_is_found() {
        let mut declared = Declarations::default();
        declared.read(HEADER);
        let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
        assert_eq!(
            names(&declared.types),
            [
                "HDV_HOST",
                "HDV_ID",
                "HDV_KIND",
                "IThing",
                "PGET_PLACE",
                "PHDV_ID"
            ]
        );
        assert_eq!(
            names(&declared.constants),
            [
                "HDV_COUNT",
                "HdvKindNone",
                "HdvKindSome",
                "IID_IThing",
                "MACRO"
            ]
        );
        assert_eq!(
            declared.functions["HdvDo"],
            Function {
                result: Some("HRESULT"),
                parameters: vec![
                    "_In_ HDV_HOST Host".to_owned(),
                    "_Out_ UINT64* Out".to_owned()
                ]
            }
        );
        assert_eq!(declared.functions["HdvForget"], Function::default());
        assert_eq!(declared.functions.len(), 2);
        assert_eq!(declared.callbacks["HDV_START"].result, Some("HRESULT"));
        assert_eq!(declared.callbacks["HDV_START"].parameters.len(), 2);
        assert_eq!(declared.callbacks["HDV_STOP"].result, None);
        assert_eq!(declared.callbacks["GET_PLACE"].result, Some("NTSTATUS"));
        assert_eq!(declared.callbacks["GET_PLACE"].parameters.len(), 2);
        assert_eq!(declared.callbacks["PCOUNT"].result, None);
        assert_eq!(declared.callbacks.len(), 4);
    }
}
