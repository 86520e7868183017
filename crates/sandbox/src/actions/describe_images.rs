//! DescribeImages: its parameters and its response.

use imageshare_core::ids::ImageId;
use serde_json::{Value, json};

use super::{
    Context, Members, Parameters, Request,
    filters::{Filter, Pagination},
    parameters::image,
};
use crate::{
    clock::api_time,
    ledger::{ImageState, ImageView, Refusal},
};

/// The images that a request selects.
#[derive(Debug)]
pub(super) struct DescribeImages {
    ids: Option<Vec<ImageId>>,
    filters: Vec<Filter>,
    page: Pagination,
}

impl Request for DescribeImages {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let ids = from.texts("ImageIds")?;
        let filters = Filter::read(from, is_filter, "InvalidFilter")?;
        if ids.is_some() && !filters.is_empty() {
            return Err(Refusal::new(
                "InvalidParameter.InvalidParameterCoexistImageIdsFilters",
                "The parameters `ImageIds` and `Filters` cannot be given together.",
            ));
        }
        let page = Pagination::read(from, "InvalidParameterValue.InvalidParameterValueLimit")?;
        from.text("InstanceType")?;
        Ok(Self { ids: ids.map(|ids| ids.iter().map(|id| image(id)).collect()).transpose()?, filters, page })
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
                .filter(|(id, view)| self.filters.iter().all(|filter| matches(filter, *id, view)))
                .collect(),
        };
        // Newest first, as recorded. Images of one time keep the order of the request or of their ids.
        images.sort_by_key(|(_, view)| std::cmp::Reverse(view.created));
        let total = images.len();
        let page = self.page.of(images.into_iter().map(|(id, view)| describe(id, &view)));
        Ok(vec![("TotalCount", json!(total)), ("ImageSet", Value::Array(page))])
    }
}

fn is_filter(name: &str) -> bool {
    let names = [
        "cdc-cache-status",
        "dedicated-cluster-id",
        "image-id",
        "image-name",
        "image-type",
        "platform",
        "tag-key",
        "tag-value",
    ];
    names.contains(&name) || name.starts_with("tag:")
}

fn matches(filter: &Filter, id: ImageId, view: &ImageView<'_>) -> bool {
    match filter.name.as_str() {
        "image-id" => filter.accepts(id.as_str()),
        "image-name" => filter.accepts(view.name),
        "image-type" => filter.accepts(view.image_type.as_str()),
        "platform" => filter.accepts(PLATFORM),
        "tag-key" => view.tags.iter().any(|(key, _)| filter.accepts(key)),
        "tag-value" => view.tags.iter().any(|(_, value)| filter.accepts(value)),
        // No image of the sandbox is in a dedicated cluster or its cache.
        name => name
            .strip_prefix("tag:")
            .is_some_and(|tag| view.tags.iter().any(|(key, value)| key == tag && filter.accepts(value))),
    }
}

const PLATFORM: &str = "TencentOS";

/// The members of an image in the response. Members that the world file does not set are the same for every image.
///
/// Besides the documented members, they include those of recorded responses.
fn describe(id: ImageId, view: &ImageView<'_>) -> Value {
    let tag = |(key, value): &(String, String)| json!({"Key": key, "Value": value, "tagKey": key, "tagValue": value});
    json!({
        "ImageId": id,
        "ImageName": view.name,
        "ImageState": view.state.as_str(),
        "ImageType": view.image_type.as_str(),
        "ImageCreator": view.owner,
        "LicenseType": view.license.as_str(),
        "ImageDescription": view.description,
        "OsName": "TencentOS Server 4 for x86_64",
        "Platform": PLATFORM,
        "Architecture": "x86_64",
        "CreatedTime": api_time(view.created),
        "ImageSource": "CREATE_IMAGE",
        "ImageSize": 50,
        "SyncPercent": view.percent.filter(|_| view.state == ImageState::Syncing),
        "IsSupportCloudinit": true,
        "ImageDeprecated": view.deprecated,
        "ImageFamily": view.family,
        "SnapshotSet": [],
        "Tags": view.tags.iter().map(tag).collect::<Vec<_>>(),
        "CdcCacheStatus": null,
        "CreatePercent": view.percent.filter(|_| view.state == ImageState::Creating),
        "GPUDriverList": [],
        "ImageFormat": "RAW",
        "IsSupportAutoInstallGPUDriver": false,
        "_ImageClass": "SystemImage",
        "isSupportCloudinit": true,
    })
}
