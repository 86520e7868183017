//! The regions of the API.

use alloc::format;

use imageshare_core::ids::Region;

use super::Refusal;

/// A region with its English name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// The id.
    pub id: &'static str,
    /// The area and the city.
    pub name: &'static str,
    area: Area,
}

/// Images are copied only within an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Area {
    Mainland,
    Elsewhere,
}

/// The regions that serve image sharing, ordered by id.
pub const REGIONS: [RegionInfo; 18] = {
    use Area::{Elsewhere, Mainland};
    const fn region(id: &'static str, name: &'static str, area: Area) -> RegionInfo {
        RegionInfo { id, name, area }
    }
    [
        region("ap-bangkok", "Southeast Asia (Bangkok)", Elsewhere),
        region("ap-beijing", "North China (Beijing)", Mainland),
        region("ap-chengdu", "Southwest China (Chengdu)", Mainland),
        region("ap-chongqing", "Southwest China (Chongqing)", Mainland),
        region("ap-guangzhou", "South China (Guangzhou)", Mainland),
        region("ap-hongkong", "Hong Kong, Macao and Taiwan (Hong Kong, China)", Elsewhere),
        region("ap-jakarta", "Southeast Asia (Jakarta)", Elsewhere),
        region("ap-nanjing", "East China (Nanjing)", Mainland),
        region("ap-seoul", "Northeast Asia (Seoul)", Elsewhere),
        region("ap-shanghai", "East China (Shanghai)", Mainland),
        region("ap-shanghai-fsi", "East China (Shanghai Finance)", Mainland),
        region("ap-shenzhen-fsi", "South China (Shenzhen Finance)", Mainland),
        region("ap-singapore", "Southeast Asia (Singapore)", Elsewhere),
        region("ap-tokyo", "Northeast Asia (Tokyo)", Elsewhere),
        region("eu-frankfurt", "Europe (Frankfurt)", Elsewhere),
        region("na-ashburn", "US East (Virginia)", Elsewhere),
        region("na-siliconvalley", "US West (Silicon Valley)", Elsewhere),
        region("sa-saopaulo", "South America (Sao Paulo)", Elsewhere),
    ]
};

impl RegionInfo {
    /// Returns a region by its id.
    #[must_use]
    pub fn of(region: Region) -> Option<&'static Self> {
        REGIONS.iter().find(|info| info.id == region.as_str())
    }

    /// Returns the city in its name.
    #[must_use]
    pub fn city(&self) -> &'static str {
        self.name.rsplit_once('(').map_or(self.name, |(_, city)| city.trim_end_matches(')'))
    }
}

/// Checks that images can be copied between two regions. The API requires a support ticket for a copy
/// between mainland China and another region.
pub(super) fn check_copy(from: Region, to: Region) -> Result<(), Refusal> {
    let unknown = |region| Refusal::new("InvalidRegion.NotFound", format!("The region `{region}` does not exist."));
    let [source, target] = [from, to].map(|region| RegionInfo::of(region).ok_or_else(|| unknown(region)));
    let (source, target) = (source?, target?);
    if source.area == target.area {
        return Ok(());
    }
    let message = format!("Images of the region `{from}` cannot be copied to the region `{to}` without a ticket.");
    Err(Refusal::new("InvalidRegion.Unavailable", message))
}
