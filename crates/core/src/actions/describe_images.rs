//! DescribeImages: state, type and licence of images, to know whether they can be shared.
//!
//! The vendor's page: [DescribeImages (213/33272)](https://www.tencentcloud.com/document/product/213/33272).

use alloc::{string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Deserializer};

use super::{Action, CVM};
use crate::{
    ids::ImageId,
    params::{ParameterWriter, Parameters},
    response::{List, Listed, NotAnAnswer, present},
    scalar::Scalar,
};

/// Entries of a response if the request has no limit.
const LIMIT_DEFAULT: usize = 20;

/// Describes images by their ids. An id that does not exist is missing in the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeImages {
    /// The images, 1 to 100, the most that a response has.
    pub image_ids: Vec<ImageId>,
}

/// An image, as far as sharing is concerned. Most members may be null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub image_id: ImageId,
    /// Whether it is ready. Only [`ImageState::Normal`] can be shared.
    pub image_state: Option<ImageState>,
    /// `PRIVATE_IMAGE` can be shared, `PUBLIC_IMAGE` and `SHARED_IMAGE` cannot. Safe to print.
    pub image_type: Option<String>,
    /// `TencentCloud` or `BYOL`, which cannot be shared. Safe to print.
    pub license_type: Option<String>,
}

/// The state of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// Creating it failed, for good.
    CreateFailed,
    /// Being created.
    Creating,
    /// Importing it failed, for good.
    ImportFailed,
    /// Being imported.
    Importing,
    /// Ready.
    Normal,
    /// A state that the vendor's page does not list. Safe to print.
    Other(String),
    /// Being copied to another region.
    Syncing,
    /// Occupied; only older texts list it.
    Using,
}

impl ImageState {
    /// The API's spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::CreateFailed => "CREATEFAILED",
            Self::Creating => "CREATING",
            Self::ImportFailed => "IMPORTFAILED",
            Self::Importing => "IMPORTING",
            Self::Normal => "NORMAL",
            Self::Other(text) => text,
            Self::Syncing => "SYNCING",
            Self::Using => "USING",
        }
    }
}

impl From<String> for ImageState {
    fn from(text: String) -> Self {
        match text.as_str() {
            "CREATEFAILED" => Self::CreateFailed,
            "CREATING" => Self::Creating,
            "IMPORTFAILED" => Self::ImportFailed,
            "IMPORTING" => Self::Importing,
            "NORMAL" => Self::Normal,
            "SYNCING" => Self::Syncing,
            "USING" => Self::Using,
            _ => Self::Other(text),
        }
    }
}

impl fmt::Display for ImageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Parameters for DescribeImages {
    fn write_parameters(&self, to: &mut impl ParameterWriter) {
        to.texts("ImageIds", &self.image_ids);
        if self.image_ids.len() > LIMIT_DEFAULT {
            to.number("Limit", u64::try_from(self.image_ids.len()).unwrap_or(u64::MAX));
        }
    }
}

impl Action for DescribeImages {
    const NAME: &'static str = "DescribeImages";
    const SERVICE: &'static str = CVM.0;
    const VERSION: &'static str = CVM.1;
    type Answer = Vec<Image>;

    /// A missing set, or an entry with an invalid id, makes the whole response invalid: without it, the response would show that
    /// an image does not exist.
    fn answer<'de, D: Deserializer<'de>>(members: D) -> Result<Result<Vec<Image>, NotAnAnswer>, D::Error> {
        #[derive(Deserialize)]
        struct Members {
            #[serde(rename = "ImageSet", default, deserialize_with = "present")]
            images: Option<List<Image>>,
        }

        let Members { images } = Members::deserialize(members)?;
        Ok(List::read("ImageSet", images))
    }
}

#[derive(Deserialize)]
pub(crate) struct Entry<'a> {
    #[serde(rename = "ImageId", borrow)]
    image_id: Option<Scalar<'a>>,
    #[serde(rename = "ImageState", borrow)]
    image_state: Option<Scalar<'a>>,
    #[serde(rename = "ImageType", borrow)]
    image_type: Option<Scalar<'a>>,
    #[serde(rename = "LicenseType", borrow)]
    license_type: Option<Scalar<'a>>,
}

impl Listed for Image {
    type Entry<'a> = Entry<'a>;

    fn read(entry: &Entry<'_>, index: usize) -> Result<Self, NotAnAnswer> {
        let member = entry.image_id.as_ref().unwrap_or(&Scalar::Null);
        let image_id = member.as_text().and_then(|text| text.parse().ok()).ok_or_else(|| {
            NotAnAnswer::new(alloc::format!(
                "ImageSet[{index}].ImageId: invalid value {} (expected img- followed by 4 to 32 lowercase letters or digits)",
                member.to_excerpt()
            ))
        })?;
        let shown = |member: &Option<Scalar<'_>>| member.as_ref().and_then(Scalar::to_shown);
        Ok(Self {
            image_id,
            image_state: shown(&entry.image_state).map(ImageState::from),
            image_type: shown(&entry.image_type),
            license_type: shown(&entry.license_type),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{params::json, response::parse};

    #[test]
    fn body_lists_images_with_limit() {
        let image_id = |n: usize| alloc::format!("img-{n:08}").parse().unwrap();
        let few = DescribeImages { image_ids: [image_id(1)].into() };
        assert_eq!(json(&few), r#"{"ImageIds":["img-00000001"]}"#);
        let many = DescribeImages { image_ids: (0..21).map(image_id).collect() };
        assert!(json(&many).ends_with(r#""img-00000020"],"Limit":21}"#));
    }

    #[test]
    fn answer_as_documented() {
        let body = br#"{
    "Response": {
        "ImageSet": [
            {
                "ImageId": "img-gvbnzy6f",
                "OsName": "CentOS 7.6 64bit",
                "ImageSize": 50,
                "ImageType": "PRIVATE_IMAGE",
                "CreatedTime": "2020-09-25T07:18:31Z",
                "ImageState": "NORMAL",
                "ImageSource": "CREATE_IMAGE",
                "ImageName": "golden",
                "ImageDescription": "",
                "ImageCreator": "1038493875",
                "Architecture": "x86_64",
                "Platform": "CentOS",
                "SyncPercent": null,
                "IsSupportCloudinit": true,
                "SnapshotSet": [{"SnapshotId": "snap-abcd1234", "DiskUsage": "SYSTEM_DISK", "DiskSize": 50}],
                "Tags": [],
                "LicenseType": "TencentCloud"
            }
        ],
        "TotalCount": 1,
        "RequestId": "35b7f6ae-7f3c-4c0b-8c52-6a9a3b4f4c5e"
    }
}"#;
        assert_eq!(
            parse::<DescribeImages>(200, body).unwrap().answer,
            [Image {
                image_id: "img-gvbnzy6f".parse().unwrap(),
                image_state: Some(ImageState::Normal),
                image_type: Some("PRIVATE_IMAGE".into()),
                license_type: Some("TencentCloud".into()),
            }]
        );
    }

    fn one(members: &str) -> Option<Image> {
        let body = alloc::format!(
            r#"{{"Response":{{"ImageSet":[{{"ImageId":"img-gvbnzy6f"{members}}}],"TotalCount":1,"RequestId":"x"}}}}"#
        );
        parse::<DescribeImages>(200, body.as_bytes()).unwrap().answer.pop()
    }

    #[test]
    fn every_state_keeps_its_spelling() {
        for text in ["CREATEFAILED", "CREATING", "IMPORTFAILED", "IMPORTING", "NORMAL", "SYNCING", "USING"] {
            let state = one(&alloc::format!(r#","ImageState":"{text}""#)).unwrap().image_state.unwrap();
            assert_eq!(state.as_str(), text);
            assert!(!matches!(state, ImageState::Other(_)), "{text}");
        }
        let state = one(r#","ImageState":"MELTING\u001b""#).unwrap().image_state.unwrap();
        assert_eq!(state, ImageState::Other("MELTING ".into()));
    }

    #[test]
    fn missing_or_mistyped_members_are_none() {
        for members in ["", r#","ImageState":null,"ImageType":7,"LicenseType":[]"#] {
            let image = one(members).unwrap();
            assert_eq!((image.image_state, image.image_type, image.license_type), (None, None, None));
        }
    }

    #[test]
    fn unknown_image_gives_empty_set() {
        for set in ["[]", "null"] {
            let body = alloc::format!(r#"{{"Response":{{"ImageSet":{set},"TotalCount":0,"RequestId":"x"}}}}"#);
            assert!(parse::<DescribeImages>(200, body.as_bytes()).unwrap().answer.is_empty());
        }
    }

    #[test]
    fn missing_set_is_invalid() {
        assert_eq!(
            parse::<DescribeImages>(200, br#"{"Response":{"TotalCount":0,"RequestId":"x"}}"#).unwrap_err().to_string(),
            "not an API response: ImageSet: missing (expected a list or null)"
        );
    }

    #[test]
    fn invalid_id_makes_the_response_invalid() {
        let body = br#"{"Response":{"ImageSet":[{"ImageId":"lhbp-1"}],"RequestId":"x"}}"#;
        assert_eq!(
            parse::<DescribeImages>(200, body).unwrap_err().to_string(),
            "not an API response: ImageSet[0].ImageId: invalid value \"lhbp-1\" \
             (expected img- followed by 4 to 32 lowercase letters or digits)"
        );
    }
}
