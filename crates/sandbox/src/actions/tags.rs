//! The parameter `TagSpecification`.

use super::Parameters;
use crate::ledger::Refusal;

const TAGS_MAX: usize = 10;
const KEY_CHARS_MAX: usize = 127;
const VALUE_CHARS_MAX: usize = 255;

/// Takes the tags of a new resource, as keys and values.
pub(super) fn read(from: &mut Parameters) -> Result<Vec<(String, String)>, Refusal> {
    let mut tags = Vec::new();
    for mut specification in from.objects("TagSpecification")? {
        specification.required_text("ResourceType")?;
        for mut tag in specification.objects("Tags")? {
            let code = "InvalidParameterValue.TooLarge";
            let key = tag.short_text("Key", KEY_CHARS_MAX, code)?.ok_or_else(|| Refusal::missing_parameter("Key"))?;
            let value = tag.short_text("Value", VALUE_CHARS_MAX, code)?.unwrap_or_default();
            tag.finish()?;
            tags.push((key, value));
        }
        specification.finish()?;
    }
    if tags.len() > TAGS_MAX {
        let message = format!("The number of tags is {}, which exceeds the limit {TAGS_MAX}.", tags.len());
        return Err(Refusal::new("InvalidParameterValue.TagQuotaLimitExceeded", message));
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(specification: &Value, code: &str) {
        let Value::Object(members) = json!({"TagSpecification": specification}) else { return };
        let tags = read(&mut Parameters::new(members, false)).map_err(|refusal| refusal.code.into_owned());
        assert_eq!(tags, Err(code.to_owned()));
    }

    #[test]
    fn tags_are_bounded() {
        let tags = |tags: Value| json!([{"ResourceType": "image", "Tags": tags}]);
        check(&json!("x"), "InvalidParameter");
        check(&json!([{"Tags": []}]), "MissingParameter");
        check(&tags(json!([{"Value": "x"}])), "MissingParameter");
        check(&tags(json!([{"Key": "x", "Colour": "red"}])), "UnknownParameter");
        check(&tags(json!([{"Key": "x".repeat(128)}])), "InvalidParameterValue.TooLarge");
        check(&tags(json!([{"Key": "x", "Value": "x".repeat(256)}])), "InvalidParameterValue.TooLarge");
        check(&tags(json!(vec![json!({"Key": "x"}); 11])), "InvalidParameterValue.TagQuotaLimitExceeded");
    }
}
