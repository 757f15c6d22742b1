//! The config map `kube-root-ca.crt` of every namespace, by which pods trust the API server.
//! Source: `pkg/controller/certificates/rootcacertpublisher`.

use super::context::{Context, Running};
use crate::client::{Objects, is_already_exists, is_namespace_terminating, is_not_found, kinds};
use crate::runtime::views::Namespace;
use crate::runtime::{Action, Controller, Informer, InformerOptions, Meta, ObjectKey, Store, WorkQueue, whole};
use async_trait::async_trait;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::sync::Arc;

const NAME: &str = "root-ca-cert-publisher";
const CONFIG_MAP: &str = "kube-root-ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// All of it: who publishes may update, and not read.
struct ConfigMap {
    meta: Meta,
    object: Value,
}

impl<'de> Deserialize<'de> for ConfigMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Value::deserialize(deserializer)?;
        let meta = Meta::deserialize(&object["metadata"]).map_err(D::Error::custom)?;
        Ok(Self { meta, object })
    }
}

whole!(ConfigMap, kinds::CONFIG_MAPS);

/// Keys are namespaces.
pub fn start(context: &Context) -> Running {
    let queue = Arc::new(WorkQueue::default());
    let namespaces = context.informers.of::<Namespace>();
    // Only those of this name: config maps can be many and large.
    let options =
        InformerOptions { field_selector: Some(format!("metadata.name={CONFIG_MAP}")), ..InformerOptions::default() };
    let informer = Informer::<ConfigMap>::start(context.informers.client().clone(), options);
    namespaces.feed(&queue);
    let maps = informer.store().clone();
    maps.on_change({
        let queue = queue.clone();
        move |change| queue.add(ObjectKey::new("", &change.object().meta.namespace))
    });
    let controller = RootCa {
        objects: context.objects(NAME),
        namespaces: namespaces.clone(),
        informer,
        root_ca: context.config.root_ca.clone(),
    };
    Running::new(controller, queue, 1, [namespaces.until_synced(), maps.until_synced()], move || namespaces.keys())
}

struct RootCa {
    objects: Objects,
    namespaces: Arc<Store<Namespace>>,
    informer: Informer<ConfigMap>,
    root_ca: Arc<str>,
}

#[async_trait]
impl Controller for RootCa {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &ObjectKey) -> anyhow::Result<Action> {
        if self.namespaces.get(key).is_none_or(|namespace| namespace.meta.is_deleting()) {
            return Ok(Action::Done);
        }
        let namespace = &*key.name;
        let data = json!({ "ca.crt": *self.root_ca });
        let existing = self.informer.store().find(namespace, CONFIG_MAP);
        let written = if let Some(map) = existing {
            if map.object["data"] == data && map.meta.annotation(DESCRIPTION) == Some(DESCRIPTION_TEXT) {
                return Ok(Action::Done);
            }
            let mut object = map.object.clone();
            object["data"] = data;
            object["metadata"]["annotations"][DESCRIPTION] = DESCRIPTION_TEXT.into();
            self.objects.update(&kinds::CONFIG_MAPS, namespace, CONFIG_MAP, "", &object).await
        } else {
            let map = json!({
                "metadata": { "name": CONFIG_MAP, "namespace": namespace, "annotations": { DESCRIPTION: DESCRIPTION_TEXT } },
                "data": data,
            });
            self.objects.create(&kinds::CONFIG_MAPS, namespace, map).await
        };
        match written {
            Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) || is_not_found(&error) => {
                Ok(Action::Done)
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Action::Done),
        }
    }
}
