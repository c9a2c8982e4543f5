//! Listing a part of a bucket: page by page, to the end, or an error.

use super::client::Client;
use super::patience::GivenUp;
use super::trouble::Failure;
use crate::store::{Error, Key, Kind, Listed, Listing, Result, Trouble};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use std::collections::BTreeMap;

/// More pages than any listing has: a server that goes round in circles.
const PAGES_MAX: usize = 1_000_000;

/// What lies below `folder` of the repository: paths from there on, and sizes.
pub(super) async fn below(client: &Client, folder: &str) -> Result<BTreeMap<String, u64>> {
    let prefix = format!("{}/", client.path(folder));
    let mut found = BTreeMap::new();
    let mut pages = Pages::of(client, folder, prefix.clone(), None);
    while let Some(page) = pages.next().await? {
        for object in page.objects {
            // What a web console makes for an empty folder has the folder's own name.
            if let Some(name) = object.location.as_ref().strip_prefix(&prefix) {
                found.insert(name.to_owned(), object.size);
            }
        }
    }
    Ok(found)
}

/// Sorts what was found into objects of a kind and others.
pub(super) fn of_kind(kind: Kind, names: BTreeMap<String, u64>) -> Listing {
    let mut listing = Listing::default();
    for (name, bytes) in names {
        let path = format!("{}/{name}", kind.folder());
        let last = name.rsplit('/').next().unwrap_or_default();
        match Key::parse_object(kind, last).filter(|key| key.path() == path) {
            Some(key) => listing.objects.push(Listed { key, bytes }),
            None => listing.foreign.push(path),
        }
    }
    listing
}

/// A name right below the repository's root that no repository has.
pub(super) async fn stranger(client: &Client) -> Result<Option<String>> {
    let prefix = match client.bucket.prefix.as_str() {
        "" => String::new(),
        prefix => format!("{prefix}/"),
    };
    let mut pages = Pages::of(client, "", prefix.clone(), Some("/"));
    while let Some(page) = pages.next().await? {
        let names = page.common_prefixes.iter().chain(page.objects.iter().map(|object| &object.location));
        for name in names.filter_map(|path| path.as_ref().strip_prefix(&prefix)) {
            if !name.is_empty() && !Key::is_at_root(name) {
                return Ok(Some(name.to_owned()));
            }
        }
    }
    Ok(None)
}

/// The pages of one listing.
struct Pages<'c> {
    client: &'c Client,
    shown: &'c str,
    prefix: String,
    delimiter: Option<&'static str>,
    token: Option<String>,
    taken: usize,
    over: bool,
}

impl<'c> Pages<'c> {
    fn of(client: &'c Client, shown: &'c str, prefix: String, delimiter: Option<&'static str>) -> Self {
        Self { client, shown, prefix, delimiter, token: None, taken: 0, over: false }
    }

    async fn next(&mut self) -> Result<Option<object_store::ListResult>> {
        if self.over {
            return Ok(None);
        }
        let (client, prefix) = (self.client, (!self.prefix.is_empty()).then_some(self.prefix.as_str()));
        let request = || {
            let options = PaginatedListOptions {
                delimiter: self.delimiter.map(Into::into),
                page_token: self.token.clone(),
                ..PaginatedListOptions::default()
            };
            client.s3.list_paginated(prefix, options)
        };
        let failed = |given_up| client.error("list", self.shown_name(), given_up);
        let page = match client.patience.repeat(1 << 20, request).await {
            Ok(page) => page,
            // Of a listing there is nothing else that could be missing.
            Err(GivenUp { failure: Failure::Missing, tries }) => {
                let failure = Failure::Trouble { trouble: Trouble::NoBucket, said: String::new(), again: false };
                return Err(failed(GivenUp { failure, tries }));
            }
            Err(given_up) => return Err(failed(given_up)),
        };
        self.taken += 1;
        if page.page_token.is_some() && (page.page_token == self.token || self.taken >= PAGES_MAX) {
            return Err(Error::Remote {
                operation: "list",
                object: self.shown_name(),
                place: client.bucket.to_string(),
                trouble: Trouble::Answer,
                said: "its pages go round in a circle".to_owned(),
            });
        }
        self.over = page.page_token.is_none();
        self.token = page.page_token;
        Ok(Some(page.result))
    }

    fn shown_name(&self) -> String {
        match self.shown {
            "" => "what is there".to_owned(),
            shown => format!("{shown}/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_into_objects_and_strangers() {
        let name = "ab".repeat(32);
        let names = [format!("ab/{name}"), format!("cd/{name}"), name.clone(), "ab/x/y".to_owned()];
        let listing = of_kind(Kind::Pack, names.into_iter().map(|name| (name, 7)).collect());
        assert_eq!(listing.objects, [Listed { key: Key::Object(Kind::Pack, [0xab; 32]), bytes: 7 }]);
        assert_eq!(listing.foreign.len(), 3, "{listing:?}");
        let listing = of_kind(Kind::Index, [(name, 7)].into());
        assert_eq!((listing.objects.len(), listing.foreign.len()), (1, 0));
    }
}
