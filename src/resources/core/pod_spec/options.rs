//! What an update may keep though it would be refused on create: rules that came later than the
//! object. Source: `GetValidationOptionsFromPodSpecAndMeta` in `pkg/api/pod/util.go`.

use super::{containers, placement, resource_requirements, security, volumes};
use crate::api::{Fields, Path};
use crate::resources::labels;
use serde_json::Value;

/// False: the rule of v1.36 holds. True: the old object breaks it, so the new one may.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The spec is that of a Pod, not of a template.
    pub is_pod: bool,
    pub keep_deletion_cost: bool,
    pub keep_selector_values: bool,
    pub keep_node_affinity_values: bool,
    pub keep_spread_selector: bool,
    pub keep_spread_keys: bool,
    pub keep_huge_pages: bool,
    pub keep_token_path: bool,
    pub keep_host_sysctls: bool,
    pub keep_selinux_policy: bool,
    pub keep_user_namespace_devices: bool,
    pub keep_user_namespace_host_network: bool,
    pub keep_init_resize: bool,
}

impl Options {
    /// Of a spec that is new.
    pub fn create(is_pod: bool) -> Self {
        Self { is_pod, ..Self::default() }
    }

    /// Of a spec that replaces `old`.
    pub fn update(is_pod: bool, old: &Value, old_annotations: &Value) -> Self {
        let affinities = ["podAffinity", "podAntiAffinity"];
        let terms = affinities.iter().flat_map(|field| {
            let affinity = old.at("affinity").at(field);
            let required = affinity.list_at("requiredDuringSchedulingIgnoredDuringExecution").iter();
            let preferred = affinity.list_at("preferredDuringSchedulingIgnoredDuringExecution").iter();
            required.chain(preferred.map(|weighted| weighted.at("podAffinityTerm")))
        });
        let mut selectors = terms.map(|term| term.at("labelSelector"));
        let node_terms = old
            .at("affinity")
            .at("nodeAffinity")
            .at("requiredDuringSchedulingIgnoredDuringExecution")
            .list_at("nodeSelectorTerms");
        let root = Path::root();
        let mut spread = Vec::new();
        let mut keys = Vec::new();
        for constraint in old.list_at("topologySpreadConstraints") {
            labels::selector(constraint.at("labelSelector"), false, &root, &mut spread);
            placement::match_label_keys(constraint, &root, &mut keys);
        }
        let user_namespace = old.optional_bool("hostUsers") == Some(false);
        Self {
            is_pod,
            keep_deletion_cost: !super::super::pod_metadata::deletion_cost_is_valid(old_annotations),
            keep_selector_values: selectors.any(labels::selector_has_invalid_value),
            keep_node_affinity_values: node_terms.iter().any(labels::selector_has_invalid_value),
            keep_spread_selector: !spread.is_empty(),
            keep_spread_keys: !keys.is_empty(),
            keep_huge_pages: resource_requirements::has_indivisible_huge_pages(old),
            keep_token_path: volumes::has_non_local_token_path(old),
            keep_host_sysctls: security::has_host_sysctl(old),
            keep_selinux_policy: old.at("securityContext").has("seLinuxChangePolicy"),
            keep_user_namespace_devices: user_namespace
                && super::containers(old).any(|(_, container)| !container.list_at("volumeDevices").is_empty()),
            keep_user_namespace_host_network: user_namespace && old.bool_at("hostNetwork"),
            keep_init_resize: containers::init_restarts_on_resize(old),
        }
    }
}
