//! One page that shows it all, opens offline, and cannot be made to run what a recording says.
//!
//! The page is our own markup, style and script, constant, and the data as JSON in an inert script
//! element. Text from the recording is in the data only: `<`, `>` and `&` are escaped there, so that
//! it cannot end the element, and the script puts it into the page with `textContent` alone. A
//! content security policy lets nothing load, and nothing run but the script whose nonce is the hash
//! of the data; a recording that wanted to name it would have to contain its own hash.

mod data;

use crate::gather::Analysis;

const STYLE: &str = include_str!("assets/style.css");
const BODY: &str = include_str!("assets/body.html");
/// In the order in which they build on each other.
const SCRIPTS: [&str; 8] = [
    include_str!("assets/base.js"),
    include_str!("assets/chart.js"),
    include_str!("assets/pauses.js"),
    include_str!("assets/flow.js"),
    include_str!("assets/heat.js"),
    include_str!("assets/wave.js"),
    include_str!("assets/tables.js"),
    include_str!("assets/main.js"),
];

/// The page.
///
/// # Errors
/// If the data cannot be encoded, which happens only for lack of memory.
pub fn page(analysis: &Analysis) -> Result<String, serde_json::Error> {
    let data = inert(&serde_json::to_string(&data::Data::of(analysis))?);
    let nonce = &blake3::hash(data.as_bytes()).to_hex()[..32];
    let script = SCRIPTS.concat();
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; base-uri 'none'; \
         form-action 'none'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"generator\" content=\"stillframe {version}\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>stillframe report</title>\n<style nonce=\"{nonce}\">\n{STYLE}</style>\n</head>\n\
         <body>\n{BODY}\
         <script type=\"application/json\" id=\"data\" nonce=\"{nonce}\">{data}</script>\n\
         <script nonce=\"{nonce}\">\n\"use strict\";\n(() => {{\n{script}}})();\n</script>\n\
         </body>\n</html>\n",
        version = env!("CARGO_PKG_VERSION"),
    ))
}

/// JSON that no parser of HTML takes for markup. The escapes are JSON's own.
fn inert(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn inert_json_means_the_same_and_holds_no_markup(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            let out = inert(&json);
            let markup = ['<', '>', '&', '\u{2028}', '\u{2029}'];
            prop_assert!(!out.contains(markup));
            prop_assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn our_own_assets_load_nothing_and_write_no_markup() {
        let script = SCRIPTS.concat();
        for text in [STYLE, BODY, &script] {
            for word in ["http://", "https://", "url(", "@import", "//cdn"] {
                let rest = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!rest.contains(word), "{word}");
            }
        }
        for word in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "Function(",
            "setAttribute(\"on",
            "fetch(",
            "XMLHttpRequest",
            "import(",
            "</script",
            "srcdoc",
            ".href",
        ] {
            assert!(!script.contains(word), "{word}");
        }
        let handler = |w: &str| w.starts_with("on") && w.contains('=');
        assert!(!BODY.split_whitespace().any(handler) && !BODY.contains("style="));
    }
}
