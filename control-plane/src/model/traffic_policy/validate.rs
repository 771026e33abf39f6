//! What is checked of a TrafficPolicy's sections beyond their fields' types: fields that exclude or need each other,
//! lists that are too long. Each check reports the first mistake that it finds.

use super::{
    MOST_ENTRIES, TrafficDefaults, TrafficPolicySpec,
    attempts::{Retry, Timeouts},
    endpoints::{Algorithm, CircuitBreaking, LoadBalancing},
    server::{Fault, RateLimit, RateLimitKey},
};
use crate::model::{
    crd::Column,
    kinds::Kind,
    matching::{MOST, RequestMatch, check_length},
    metadata::Metadata,
    object::{FieldError, Spec},
    target_ref::{TargetKind, validate_all},
};

/// What a TrafficPolicy can hold for.
const TARGETS: &[TargetKind] = &[
    TargetKind::Service,
    TargetKind::ExternalService,
    TargetKind::HTTPRoute,
    TargetKind::GRPCRoute,
    TargetKind::Namespace,
];

impl Spec for TrafficPolicySpec {
    const KIND: Kind = Kind::TrafficPolicy;
    const COLUMNS: &'static [Column] = &[
        Column {
            name: "Target",
            r#type: "string",
            path: ".spec.targetRefs[*].name",
            description: "What it holds for.",
        },
        Column {
            name: "Programmed",
            r#type: "string",
            path: r#".status.conditions[?(@.type=="Programmed")].status"#,
            description: "Whether no sidecar refuses it.",
        },
    ];

    fn validate(&self, _: &Metadata) -> Result<(), FieldError> {
        if self.target_refs.is_empty() {
            let right = "name a Service, a route or the Namespace; for the whole mesh use MeshConfig's spec.defaults";
            return Err(FieldError::new("spec.targetRefs", format!("is empty: {right}")));
        }
        validate_all(&self.target_refs, TARGETS)?;
        if self.section_names().is_empty() {
            let right = "add a section, such as timeouts or retry";
            return Err(FieldError::new("spec", format!("says nothing of traffic: {right}")));
        }
        let to_routes = |kind| matches!(kind, TargetKind::HTTPRoute | TargetKind::GRPCRoute);
        let route = self.target_refs.iter().find(|target| to_routes(target.kind));
        if let Some(route) = route
            && let Some(section) = self.unfit_for_routes()
        {
            let message = format!(
                "holds for endpoints and ports, which {} {:?} does not have: set it on a Service",
                route.kind.name(),
                route.name
            );
            return Err(FieldError::new(format!("spec.{section}"), message));
        }
        if route.is_some()
            && let Some(field) = self.limited_paths()
        {
            let message = "the rules of the route say the paths already: leave it out";
            return Err(FieldError::new(field, message));
        }
        validate_sections("spec", &self.clone().into())
    }
}

impl TrafficPolicySpec {
    /// Where a rate limit names paths. Two conditions on one path cannot be joined to one.
    fn limited_paths(&self) -> Option<String> {
        let limits = self.rate_limits.iter().flatten().enumerate();
        let mut matches = limits.flat_map(|(limit, it)| {
            it.r#match.iter().enumerate().map(move |(one, it)| (limit, one, it))
        });
        let (limit, one, _) = matches.find(|(_, _, it)| !it.paths.is_empty())?;
        Some(format!("spec.rateLimits[{limit}].match[{one}].paths"))
    }

    /// The first section that is not about requests.
    fn unfit_for_routes(&self) -> Option<&'static str> {
        let timeouts = self.timeouts.as_ref();
        [
            ("timeouts.idle", timeouts.is_some_and(|timeouts| timeouts.idle.is_some())),
            ("timeouts.connect", timeouts.is_some_and(|timeouts| timeouts.connect.is_some())),
            ("circuitBreaking", self.circuit_breaking.is_some()),
            ("limits", self.limits.is_some()),
            ("loadBalancing", self.load_balancing.is_some()),
            ("concurrency", self.concurrency.is_some()),
            ("protocol", self.protocol.is_some()),
        ]
        .into_iter()
        .find_map(|(section, is_set)| is_set.then_some(section))
    }
}

impl From<TrafficPolicySpec> for TrafficDefaults {
    fn from(spec: TrafficPolicySpec) -> Self {
        Self {
            timeouts: spec.timeouts,
            retry: spec.retry,
            circuit_breaking: spec.circuit_breaking,
            limits: spec.limits,
            load_balancing: spec.load_balancing,
            rate_limits: spec.rate_limits,
            concurrency: spec.concurrency,
            faults: spec.faults,
        }
    }
}

/// Checks the sections that stand below a field.
pub(in crate::model) fn validate_sections(
    field: &str,
    sections: &TrafficDefaults,
) -> Result<(), FieldError> {
    if let Some(timeouts) = &sections.timeouts {
        validate_timeouts(&format!("{field}.timeouts"), timeouts)?;
    }
    if let Some(retry) = &sections.retry {
        validate_retry(&format!("{field}.retry"), retry)?;
    }
    if let Some(breaking) = &sections.circuit_breaking {
        validate_breaking(&format!("{field}.circuitBreaking"), breaking)?;
    }
    if let Some(balancing) = &sections.load_balancing {
        validate_balancing(&format!("{field}.loadBalancing"), balancing)?;
    }
    let limits = sections.rate_limits.iter().flatten();
    for (index, limit) in limits.enumerate() {
        validate_rate_limit(&format!("{field}.rateLimits[{index}]"), limit)?;
    }
    for (index, fault) in sections.faults.iter().flatten().enumerate() {
        validate_fault(&format!("{field}.faults[{index}]"), fault)?;
    }
    let length = |list: Option<usize>| list.unwrap_or(0);
    let limits = length(sections.rate_limits.as_ref().map(Vec::len));
    check_length(&format!("{field}.rateLimits"), limits, MOST_ENTRIES)?;
    let faults = length(sections.faults.as_ref().map(Vec::len));
    check_length(&format!("{field}.faults"), faults, MOST_ENTRIES)
}

fn validate_timeouts(field: &str, timeouts: &Timeouts) -> Result<(), FieldError> {
    let (Some(request), Some(attempt)) = (timeouts.request, timeouts.per_try) else {
        return Ok(());
    };
    if request.millis() == 0 || attempt.millis() <= request.millis() {
        return Ok(());
    }
    let message = format!("{attempt} is longer than request, {request}: it would never act");
    Err(FieldError::new(format!("{field}.perTry"), message))
}

fn validate_retry(field: &str, retry: &Retry) -> Result<(), FieldError> {
    for (name, length, most) in [
        ("conditions", retry.conditions.as_ref().map(Vec::len), 8),
        ("statuses", retry.statuses.as_ref().map(Vec::len), 32),
        ("grpcCodes", retry.grpc_codes.as_ref().map(Vec::len), 16),
    ] {
        check_length(&format!("{field}.{name}"), length.unwrap_or(0), most)?;
    }
    if retry.conditions.as_ref().is_some_and(Vec::is_empty) {
        let message = "is empty: name a condition, or leave it out for what is provably safe";
        return Err(FieldError::new(format!("{field}.conditions"), message));
    }
    let Some(backoff) = &retry.backoff else { return Ok(()) };
    match (backoff.base, backoff.max) {
        (Some(base), Some(max)) if max.millis() < base.millis() => {
            let message = format!("{max} is shorter than base, {base}: use as much or more");
            Err(FieldError::new(format!("{field}.backoff.max"), message))
        }
        _ => Ok(()),
    }
}

fn validate_breaking(field: &str, breaking: &CircuitBreaking) -> Result<(), FieldError> {
    match (breaking.base_ejection, breaking.max_ejection) {
        (Some(base), Some(max)) if max.millis() < base.millis() => {
            let message =
                format!("{max} is shorter than baseEjection, {base}: use as much or more");
            Err(FieldError::new(format!("{field}.maxEjection"), message))
        }
        _ => Ok(()),
    }
}

fn validate_balancing(field: &str, balancing: &LoadBalancing) -> Result<(), FieldError> {
    let failover = balancing.locality.as_ref().and_then(|locality| locality.failover.as_ref());
    let failover = failover.map_or(0, Vec::len);
    check_length(&format!("{field}.locality.failover"), failover, 16)?;
    let is_ring = balancing.algorithm == Some(Algorithm::RingHash);
    let Some(hash) = &balancing.hash else {
        if !is_ring {
            return Ok(());
        }
        let right = "say what is hashed: header, cookie, source, path or query";
        return Err(FieldError::new(format!("{field}.hash"), format!("is missing: {right}")));
    };
    let field = format!("{field}.hash");
    if !is_ring {
        return Err(FieldError::new(
            field,
            "is used by algorithm RingHash alone: set that beside it",
        ));
    }
    let given = [
        hash.header.is_some(),
        hash.cookie.is_some(),
        hash.source.is_some(),
        hash.path.is_some(),
        hash.query.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        return Err(FieldError::new(
            field,
            "use exactly one of header, cookie, source, path and query",
        ));
    }
    for (name, said) in [("source", hash.source), ("path", hash.path)] {
        if said == Some(false) {
            let field = format!("{field}.{name}");
            return Err(FieldError::new(field, "false hashes nothing: use true, or another field"));
        }
    }
    if hash.query.as_ref().is_some_and(|name| name.is_empty() || name.chars().count() > 256) {
        let message = "is no parameter's name: use 1 to 256 characters";
        return Err(FieldError::new(format!("{field}.query"), message));
    }
    Ok(())
}

fn validate_rate_limit(field: &str, limit: &RateLimit) -> Result<(), FieldError> {
    validate_matches(field, &limit.r#match)?;
    let by_header = limit.key == Some(RateLimitKey::Header);
    match (&limit.header, by_header) {
        (None, true) => {
            let message = "is missing: name the header for key Header";
            return Err(FieldError::new(format!("{field}.header"), message));
        }
        (Some(_), false) => {
            let message = "is used by key Header alone: set that beside it";
            return Err(FieldError::new(format!("{field}.header"), message));
        }
        (None, false) | (Some(_), true) => {}
    }
    if limit.fair == Some(true) && limit.key.is_some() {
        let message = "shares one limit, but key makes several: keep one of them";
        return Err(FieldError::new(format!("{field}.fair"), message));
    }
    Ok(())
}

fn validate_fault(field: &str, fault: &Fault) -> Result<(), FieldError> {
    validate_matches(field, &fault.r#match)?;
    if fault.delay.is_none() && fault.abort.is_none() {
        return Err(FieldError::new(field, "does nothing: add delay or abort"));
    }
    Ok(())
}

fn validate_matches(field: &str, matches: &[RequestMatch]) -> Result<(), FieldError> {
    check_length(&format!("{field}.match"), matches.len(), MOST)?;
    let mut each = matches.iter().enumerate();
    each.try_for_each(|(index, one)| one.validate(&format!("{field}.match[{index}]")))
}

#[cfg(test)]
mod tests {
    use crate::model::parse_object;

    fn refused(spec: &str) -> String {
        let text = format!(
            "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\n\
             metadata: {{name: slow, namespace: shop}}\nspec: {spec}"
        );
        parse_object(&text).map(|_| "taken".to_owned()).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn a_refusal_names_the_object_the_field_the_value_and_what_would_be_right() {
        let target = "targetRefs: [{kind: Service, name: cart}]";
        for (fields, said) in [
            ("retry: {attempts: 11}", "spec.retry.attempts: 11 is out of range: use 0 to 10"),
            (
                "retry: {statuses: [200]}",
                "spec.retry.statuses[0]: 200 is out of range: use 400 to 599",
            ),
            (
                "timeouts: {request: 10}",
                "spec.timeouts.request: \"10\" is no time: use 500ms, 10s, 5m, 1h or 1h30m",
            ),
            (
                "timeouts: {request: 10x}",
                "spec.timeouts.request: \"10x\" is no time: use 500ms, 10s, 5m, 1h or 1h30m",
            ),
            (
                "timeouts: {connect: 0s}",
                "spec.timeouts.connect: \"0s\" is too short: use 1ms or more",
            ),
            (
                "timeouts: {request: 1s, perTry: 2s}",
                "spec.timeouts.perTry: 2s is longer than request, 1s",
            ),
            (
                "retry: {backoff: {base: 2s, max: 1s}}",
                "spec.retry.backoff.max: 1s is shorter than base, 2s",
            ),
            (
                "loadBalancing: {algorithm: RingHash}",
                "spec.loadBalancing.hash: is missing: say what is hashed",
            ),
            (
                "loadBalancing: {hash: {source: true}}",
                "spec.loadBalancing.hash: is used by algorithm RingHash alone",
            ),
            ("rateLimits: [{requests: 1, key: Header}]", "spec.rateLimits[0].header: is missing"),
            (
                "rateLimits: [{requests: 1, key: Address, fair: true}]",
                "spec.rateLimits[0].fair: shares one limit",
            ),
            (
                "rateLimits: [{requests: 1, match: [{paths: [{pattern: '('}]}]}]",
                "spec.rateLimits[0].match[0].paths[0].pattern: \"(\" is no regular expression (RE2 syntax): unclosed group",
            ),
            (
                "rateLimits: [{requests: 1, match: [{headers: [{name: a, pattern: '((a{100}){100}){100}'}]}]}]",
                "pattern: \"((a{100}){100}){100}\" would take more than",
            ),
            ("faults: [{percent: 10}]", "spec.faults[0]: does nothing: add delay or abort"),
            (
                "faults: [{percent: 101, delay: 1s}]",
                "spec.faults[0].percent: 101 is out of range: use 0 to 100",
            ),
            (
                "faults: [{percent: 1, delay: 1s, match: [{}]}]",
                "spec.faults[0].match[0]: says nothing",
            ),
            ("", "spec: says nothing of traffic: add a section"),
            ("timeout: {}", "unknown field `timeout`"),
        ] {
            let error = refused(&format!("{{{target}, {fields}}}"));
            assert!(error.contains("TrafficPolicy shop/slow: "), "{error}");
            assert!(error.contains(said), "{fields}: {error}");
        }
    }

    #[test]
    fn targets_are_of_kinds_and_sections_that_there_are() {
        for (targets, said) in [
            ("[]", "spec.targetRefs: is empty: name a Service"),
            ("[{kind: Pod, name: cart}]", "spec.targetRefs[0].kind: unknown variant `Pod`"),
            (
                "[{kind: Service, name: Cart}]",
                "spec.targetRefs[0].name: \"Cart\" is not a valid name",
            ),
            (
                "[{kind: HTTPRoute, group: apps, name: cart}]",
                "spec.targetRefs[0].group: \"apps\" has no HTTPRoute: use \"gateway.networking.k8s.io\"",
            ),
            (
                "[{kind: Namespace, name: shop, sectionName: http}]",
                "spec.targetRefs[0].sectionName: a namespace has no sections",
            ),
            (
                "[{kind: Service, name: cart}, {kind: Service, group: '', name: cart}]",
                "spec.targetRefs[1]: stands twice",
            ),
        ] {
            let error = refused(&format!("{{targetRefs: {targets}, retry: {{attempts: 1}}}}"));
            assert!(error.contains(said), "{targets}: {error}");
        }
        let route = "targetRefs: [{kind: HTTPRoute, name: split}]";
        let error = refused(&format!("{{{route}, limits: {{maxPending: 1}}}}"));
        assert!(error.contains("spec.limits: holds for endpoints and ports"), "{error}");
        assert_eq!(refused(&format!("{{{route}, timeouts: {{request: 1s}}}}")), "taken");
    }
}
