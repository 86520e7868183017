//! DescribeImages: its parameters and its response.

use imageshare_core::ids::ImageId;
use serde_json::{Value, json};

use super::{
    Context, Members, Parameters, Request,
    parameters::{image, invalid},
};
use crate::{
    clock::api_time,
    ledger::{ImageView, Refusal},
};

const LIMIT_DEFAULT: u64 = 20;
const LIMIT_MAX: u64 = 100;
const FILTERS_MAX: usize = 10;
const VALUES_MAX: usize = 5;

/// The images that a request selects.
#[derive(Debug)]
pub(super) struct DescribeImages {
    ids: Option<Vec<ImageId>>,
    filters: Vec<Filter>,
    offset: usize,
    limit: usize,
}

#[derive(Debug)]
struct Filter {
    name: String,
    values: Vec<String>,
}

impl Request for DescribeImages {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let ids = from.texts("ImageIds")?;
        let filters = from.objects("Filters")?;
        if ids.is_some() && !filters.is_empty() {
            return Err(Refusal::new(
                "InvalidParameter.InvalidParameterCoexistImageIdsFilters",
                "The parameters `ImageIds` and `Filters` cannot be given together.",
            ));
        }
        if filters.len() > FILTERS_MAX {
            let message =
                format!("The number of `Filters` is {}, which exceeds the limit {FILTERS_MAX}.", filters.len());
            return Err(Refusal::new("InvalidParameterValue.LimitExceeded", message));
        }
        let limit = from.number("Limit")?.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            let code = "InvalidParameterValue.InvalidParameterValueLimit";
            return Err(invalid(code, "Limit", &limit.to_string(), "expected 1 to 100"));
        }
        let offset = from.number("Offset")?.unwrap_or_default();
        from.text("InstanceType")?;
        Ok(Self {
            ids: ids.map(|ids| ids.iter().map(|id| image(id)).collect()).transpose()?,
            filters: filters.into_iter().map(Filter::read).collect::<Result<_, _>>()?,
            offset: usize::try_from(offset).unwrap_or(usize::MAX),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
        })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let (ledger, now) = (&*context.ledger, context.now.millis());
        let (caller, region) = (context.account()?, context.region);
        let mut images: Vec<(ImageId, ImageView<'_>)> = match &self.ids {
            Some(ids) => {
                let view = |&id| ledger.image(now, caller, region, id).map(|view| view.map(|view| (id, view)));
                ids.iter().filter_map(|id| view(id).transpose()).collect::<Result<_, Refusal>>()?
            }
            None => ledger
                .images(now, caller, region)
                .filter(|(id, view)| self.filters.iter().all(|filter| filter.matches(*id, view)))
                .collect(),
        };
        // Newest first, as recorded. Images of one time keep the order of the request or of their ids.
        images.sort_by_key(|(_, view)| std::cmp::Reverse(view.created));
        let total = images.len();
        let page: Vec<Value> =
            images.into_iter().skip(self.offset).take(self.limit).map(|(id, view)| describe(id, &view)).collect();
        Ok(vec![("TotalCount", json!(total)), ("ImageSet", Value::Array(page))])
    }
}

impl Filter {
    fn read(mut from: Parameters) -> Result<Self, Refusal> {
        let name = from.required_text("Name")?;
        let values = from.texts("Values")?.unwrap_or_default();
        from.finish()?;
        let is_known = [
            "cdc-cache-status",
            "dedicated-cluster-id",
            "image-id",
            "image-name",
            "image-type",
            "platform",
            "tag-key",
            "tag-value",
        ];
        if !is_known.contains(&name.as_str()) && !name.starts_with("tag:") {
            return Err(invalid("InvalidFilter", "Filters.Name", &name, "it is not a filter of this action"));
        }
        if values.len() > VALUES_MAX {
            let message = format!(
                "The number of `Values` of a filter is {}, which exceeds the limit {VALUES_MAX}.",
                values.len()
            );
            return Err(Refusal::new("InvalidFilterValue.LimitExceeded", message));
        }
        Ok(Self { name, values })
    }

    fn matches(&self, id: ImageId, view: &ImageView<'_>) -> bool {
        let value = match self.name.as_str() {
            "image-id" => id.as_str(),
            "image-name" => view.name,
            "image-type" => view.image_type.as_str(),
            "platform" => PLATFORM,
            "tag-key" => return view.tags.iter().any(|(key, _)| self.values.contains(key)),
            "tag-value" => return view.tags.iter().any(|(_, value)| self.values.contains(value)),
            name => {
                let Some(tag) = name.strip_prefix("tag:") else {
                    // No image of the sandbox is in a dedicated cluster or its cache.
                    return false;
                };
                return view.tags.iter().any(|(key, value)| key == tag && self.values.contains(value));
            }
        };
        self.values.iter().any(|expected| expected == value)
    }
}

const PLATFORM: &str = "TencentOS";

/// The members of an image in the response. Members that the world file does not set are the same for every image.
///
/// Beside the documented members, it has those that recorded responses have.
fn describe(id: ImageId, view: &ImageView<'_>) -> Value {
    let tag = |(key, value): &(String, String)| json!({"Key": key, "Value": value, "tagKey": key, "tagValue": value});
    json!({
        "ImageId": id,
        "ImageName": view.name,
        "ImageState": view.state.as_str(),
        "ImageType": view.image_type.as_str(),
        "ImageCreator": view.owner,
        "LicenseType": view.license.as_str(),
        "ImageDescription": "",
        "OsName": "TencentOS Server 4 for x86_64",
        "Platform": PLATFORM,
        "Architecture": "x86_64",
        "CreatedTime": api_time(view.created),
        "ImageSource": "CREATE_IMAGE",
        "ImageSize": 50,
        "SyncPercent": null,
        "IsSupportCloudinit": true,
        "ImageDeprecated": false,
        "ImageFamily": null,
        "SnapshotSet": [],
        "Tags": view.tags.iter().map(tag).collect::<Vec<_>>(),
        "CdcCacheStatus": null,
        "CreatePercent": null,
        "GPUDriverList": [],
        "ImageFormat": "RAW",
        "IsSupportAutoInstallGPUDriver": false,
        "_ImageClass": "SystemImage",
        "isSupportCloudinit": true,
    })
}
