//! Which objects are meant: label selectors, of queries and of objects, and field selectors.
//!
//! In come selectors as text or JSON and objects, out goes yes or no. What Kubernetes does not select by is refused,
//! not passed over.

use serde_json::Value;

use super::failure::Failure;

/// Kubernetes' label selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// Kubernetes' field selector: fields that must, or must not, have a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<(String, bool, String)>,
}

impl LabelSelector {
    /// Reads a query's selector, as `app=web,tier in (a, b),!canary`.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let requirements = outside_parentheses(text)
            .into_iter()
            .filter(|term| !term.trim().is_empty())
            .map(|term| Requirement::parse(term.trim()))
            .collect::<Result<_, _>>()?;
        Ok(Self { requirements })
    }

    /// Reads an object's selector, of `matchLabels` and `matchExpressions`; absent selects everything.
    #[must_use]
    pub fn of_object(selector: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = selector["matchLabels"].as_object().into_iter().flatten();
        let labels = labels.map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![text(value)],
        });
        let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
        let expressions = expressions.map(|expression| Requirement {
            key: text(&expression["key"]),
            operator: match expression["operator"].as_str() {
                Some("NotIn") => Operator::NotIn,
                Some("Exists") => Operator::Exists,
                Some("DoesNotExist") => Operator::DoesNotExist,
                _ => Operator::In,
            },
            values: expression["values"].as_array().into_iter().flatten().map(text).collect(),
        });
        Self { requirements: labels.chain(expressions).collect() }
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether it selects this object.
    #[must_use]
    pub fn selects(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.requirements.iter().all(|one| one.holds(labels[&one.key].as_str()))
    }
}

impl Requirement {
    fn parse(term: &str) -> Result<Self, Failure> {
        let requirement = |key: &str, operator, values: Vec<String>| Self {
            key: key.trim().to_owned(),
            operator,
            values,
        };
        if let Some(key) = term.strip_prefix('!') {
            return Ok(requirement(key, Operator::DoesNotExist, Vec::new()));
        }
        if let Some((key, value)) = term.split_once("!=") {
            return Ok(requirement(key, Operator::NotIn, vec![value.trim().to_owned()]));
        }
        if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            return Ok(requirement(key, Operator::In, vec![value.trim().to_owned()]));
        }
        let Some((head, list)) = term.split_once('(') else {
            if term.contains(char::is_whitespace) {
                return Err(unparsable(term));
            }
            return Ok(requirement(term, Operator::Exists, Vec::new()));
        };
        let list = list.trim_end().strip_suffix(')').ok_or_else(|| unparsable(term))?;
        let values = list.split(',').map(|value| value.trim().to_owned()).collect();
        match head.split_whitespace().collect::<Vec<_>>()[..] {
            [key, "in"] => Ok(requirement(key, Operator::In, values)),
            [key, "notin"] => Ok(requirement(key, Operator::NotIn, values)),
            _ => Err(unparsable(term)),
        }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let listed = value.is_some_and(|value| self.values.iter().any(|one| one == value));
        match self.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl FieldSelector {
    /// Reads a query's selector, as `metadata.name=web,spec.nodeName!=`.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut terms = Vec::new();
        for term in text.split(',').filter(|term| !term.trim().is_empty()) {
            let unequal = term.split_once("!=").map(|(field, value)| (field, false, value));
            let equal = term.split_once("==").or_else(|| term.split_once('='));
            let equal = equal.map(|(field, value)| (field, true, value));
            let (field, wanted, value) = unequal.or(equal).ok_or_else(|| {
                let why = format!("invalid selector: '{text}'; can't understand '{term}'");
                Failure::bad_request(why)
            })?;
            terms.push((field.trim().to_owned(), wanted, value.trim().to_owned()));
        }
        Ok(Self { terms })
    }

    /// Selects only what has this value there.
    pub fn require(&mut self, field: &str, value: &str) {
        self.terms.push((field.to_owned(), true, value.to_owned()));
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The one name that it selects, if it selects by one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let mut terms = self.terms.iter();
        let found = terms.find(|(field, wanted, _)| field == "metadata.name" && *wanted);
        found.map(|(.., name)| name.as_str())
    }

    /// Refuses fields that Kubernetes does not select objects of this resource by.
    ///
    /// # Errors
    /// When it names such a field.
    pub fn check(&self, resource: &str) -> Result<(), Failure> {
        let more: &[&str] = match resource {
            "pods" => &[
                "spec.nodeName",
                "spec.restartPolicy",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.phase",
                "status.podIP",
                "status.nominatedNodeName",
            ],
            "namespaces" => &["status.phase"],
            "secrets" => &["type"],
            "services" => &["spec.clusterIP", "spec.type"],
            "nodes" => &["spec.unschedulable"],
            "events" => &[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "reason",
                "type",
            ],
            "jobs.batch" => &["status.successful"],
            _ => &[],
        };
        let known = |field: &str| {
            matches!(field, "metadata.name" | "metadata.namespace") || more.contains(&field)
        };
        match self.terms.iter().find(|(field, ..)| !known(field)) {
            None => Ok(()),
            Some((field, ..)) => {
                Err(Failure::bad_request(format!("field label not supported: {field}")))
            }
        }
    }

    /// Whether it selects this object.
    #[must_use]
    pub fn selects(&self, object: &Value) -> bool {
        self.terms
            .iter()
            .all(|(field, wanted, value)| (field_text(object, field) == *value) == *wanted)
    }
}

/// A field as text; empty when it is absent.
fn field_text(object: &Value, field: &str) -> String {
    let found = field.split('.').fold(object, |value, part| &value[part]);
    match found {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Splits at the commas that are not in parentheses.
fn outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(|letter| {
        depth += match letter {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        letter == ',' && depth == 0
    })
    .collect()
}

fn unparsable(term: &str) -> Failure {
    Failure::bad_request(format!("unable to parse requirement: {term:?} is no label requirement"))
}
