//! The order in which services start, and, the other way round, stop.

use super::Model;
use std::collections::BTreeSet;

/// The services in the order in which they start: each after all that it depends on, and by name where nothing
/// else decides. Compose refuses circles; should one come here, its services follow in the order of their names.
pub fn start_order(model: &Model) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut left: BTreeSet<&String> = model.services.keys().collect();
    while !left.is_empty() {
        let is_ready = |name: &String| {
            let service = &model.services[name];
            service.depends_on.keys().all(|needed| needed == name || !left.contains(needed))
        };
        let ready: Vec<&String> = left.iter().copied().filter(|name| is_ready(name)).collect();
        let next = if ready.is_empty() { left.iter().copied().collect() } else { ready };
        for name in next {
            left.remove(name);
            out.push(name.clone());
        }
    }
    out
}

/// All services that depend on `name`, directly or not: they cannot work while it is stopped.
pub fn dependents(model: &Model, name: &str) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut todo = vec![name.to_owned()];
    while let Some(at) = todo.pop() {
        for (service, found) in &model.services {
            if found.depends_on.contains_key(&at) && out.insert(service.clone()) {
                todo.push(service.clone());
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::model::{Dependency, Service};
    use super::*;

    fn model(services: &[(&str, &[&str])]) -> Model {
        let service = |needs: &[&str]| Service {
            depends_on: needs.iter().map(|name| ((*name).to_owned(), Dependency::default())).collect(),
            ..Service::default()
        };
        let services = services.iter().map(|(name, needs)| ((*name).to_owned(), service(needs))).collect();
        Model { services, ..Model::default() }
    }

    #[test]
    fn what_is_needed_starts_first() {
        let model = model(&[("a-web", &["db", "cache"]), ("cache", &[]), ("db", &["init"]), ("init", &[]), ("z", &[])]);
        assert_eq!(start_order(&model), ["cache", "init", "z", "db", "a-web"]);
        assert_eq!(dependents(&model, "init"), ["a-web", "db"].map(str::to_owned).into());
    }

    #[test]
    fn circles_and_unknown_services_do_not_hang_it() {
        let model = model(&[("a", &["b"]), ("b", &["a"]), ("c", &["gone", "c"])]);
        assert_eq!(start_order(&model), ["c", "a", "b"]);
    }
}
