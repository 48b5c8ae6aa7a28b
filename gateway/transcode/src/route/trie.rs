//! A trie of path segments. Literals win over `*`, which wins over `**`; a branch that has no rule for the HTTP
//! method is left for the next best, so that two services can share a prefix.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use http::Method;

use super::{Binding, RouteId, Verb};
use crate::{
    LoadError, RouteError,
    template::{self, Segment},
};

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, usize>,
    any: Option<usize>,
    leaves: Vec<Leaf>,
    /// Rules that end in `**` here.
    rest: Vec<Leaf>,
}

#[derive(Debug)]
struct Leaf {
    custom: Option<String>,
    verb: Verb,
    route: RouteId,
}

#[derive(Debug)]
pub(crate) struct Trie {
    nodes: Vec<Node>,
    has_custom: bool,
}

impl Default for Trie {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            has_custom: false,
        }
    }
}

/// Where the segments of a path are in its text.
#[derive(Debug)]
pub(crate) struct Spans(Vec<(usize, usize)>);

impl Spans {
    /// The text of the segments from `start` up to `end` (or as many as there are, for `**`).
    pub(crate) fn text<'p>(&self, path: &'p str, start: usize, end: usize) -> &'p str {
        let last = if end > start {
            self.0.get(end - 1).or(self.0.last())
        } else {
            None
        };
        match (self.0.get(start), last) {
            (Some((from, _)), Some((_, to))) => &path[*from..*to],
            _ => "",
        }
    }
}

impl Trie {
    pub(crate) fn new(bindings: &[Binding]) -> Result<Self, LoadError> {
        let mut trie = Self::default();
        let mut taken: HashMap<(String, &Verb), &Binding> = HashMap::new();
        for (id, binding) in bindings.iter().enumerate() {
            let shape = binding.template.shape();
            if let Some(first) = taken.insert((shape.clone(), &binding.verb), binding) {
                let verb = match &binding.verb {
                    Verb::Is(method) => method.as_str(),
                    Verb::Any => "*",
                };
                return Err(LoadError::Conflict {
                    first: first.origin.clone(),
                    second: binding.origin.clone(),
                    shape: format!("{verb} {shape}"),
                });
            }
            trie.insert(binding, RouteId(id as u32));
        }
        Ok(trie)
    }

    fn insert(&mut self, binding: &Binding, route: RouteId) {
        let leaf = Leaf {
            custom: binding.template.verb().map(str::to_owned),
            verb: binding.verb.clone(),
            route,
        };
        self.has_custom |= leaf.custom.is_some();
        let mut node = 0;
        for segment in binding.template.segments() {
            let fresh = self.nodes.len();
            let next = match segment {
                Segment::Rest => {
                    self.nodes[node].rest.push(leaf);
                    return;
                }
                Segment::Any => *self.nodes[node].any.get_or_insert(fresh),
                Segment::Literal(literal) => *self.nodes[node]
                    .literals
                    .entry(literal.clone())
                    .or_insert(fresh),
            };
            if next == fresh {
                self.nodes.push(Node::default());
            }
            node = next;
        }
        self.nodes[node].leaves.push(leaf);
    }

    /// The best route for a path. A custom verb that some rule has on this path is that verb; any other colon is
    /// part of the last segment.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Result<(RouteId, Spans), RouteError> {
        let spans = split(path).ok_or(RouteError::NotFound)?;
        let mut allow = BTreeSet::new();
        if self.has_custom
            && let Some((from, to)) = spans.0.last().copied()
            && let Some(colon) = path[from..to].rfind(':')
            && colon > 0
            && let Some(custom) = template::decode(&path[from + colon + 1..to], false)
        {
            let mut shorter = Spans(spans.0.clone());
            let last = shorter.0.len() - 1;
            shorter.0[last].1 = from + colon;
            let mut search = Search {
                trie: self,
                method,
                path,
                spans: &shorter,
                custom: Some(&custom),
                allow: &mut allow,
            };
            if let Some(route) = search.from(0, 0) {
                return Ok((route, shorter));
            }
            if !allow.is_empty() {
                return Err(not_allowed(allow));
            }
        }
        let mut search = Search {
            trie: self,
            method,
            path,
            spans: &spans,
            custom: None,
            allow: &mut allow,
        };
        if let Some(route) = search.from(0, 0) {
            return Ok((route, spans));
        }
        if allow.is_empty() {
            Err(RouteError::NotFound)
        } else {
            Err(not_allowed(allow))
        }
    }
}

fn not_allowed(mut allow: BTreeSet<String>) -> RouteError {
    if allow.contains("GET") {
        allow.insert("HEAD".to_owned());
    }
    RouteError::MethodNotAllowed {
        allow: allow.iter().filter_map(|name| name.parse().ok()).collect(),
    }
}

/// The segments of a path; nothing when it does not begin with a slash or has an empty segment.
fn split(path: &str) -> Option<Spans> {
    let mut start = 1;
    let mut spans = Vec::with_capacity(8);
    for part in path.strip_prefix('/')?.split('/') {
        if part.is_empty() {
            return None;
        }
        spans.push((start, start + part.len()));
        start += part.len() + 1;
    }
    Some(Spans(spans))
}

struct Search<'a> {
    trie: &'a Trie,
    method: &'a Method,
    path: &'a str,
    spans: &'a Spans,
    custom: Option<&'a str>,
    /// The methods of rules that match the path.
    allow: &'a mut BTreeSet<String>,
}

impl Search<'_> {
    /// A node stands at one depth only, so that each is visited at most once.
    fn from(&mut self, node: usize, depth: usize) -> Option<RouteId> {
        let trie = self.trie;
        let node = &trie.nodes[node];
        if depth == self.spans.0.len() {
            return self.leaf(&node.leaves).or_else(|| self.leaf(&node.rest));
        }
        let (from, to) = self.spans.0[depth];
        let raw = &self.path[from..to];
        if !node.literals.is_empty() {
            let text = if raw.contains('%') {
                template::decode(raw, false).map(Cow::Owned)
            } else {
                Some(Cow::Borrowed(raw))
            };
            if let Some(next) = text.and_then(|text| node.literals.get(&*text))
                && let Some(found) = self.from(*next, depth + 1)
            {
                return Some(found);
            }
        }
        if let Some(next) = node.any
            && let Some(found) = self.from(next, depth + 1)
        {
            return Some(found);
        }
        self.leaf(&node.rest)
    }

    fn leaf(&mut self, leaves: &[Leaf]) -> Option<RouteId> {
        let fitting = || {
            leaves
                .iter()
                .filter(|leaf| leaf.custom.as_deref() == self.custom)
        };
        let is = |method: &Method| {
            fitting().find(|leaf| matches!(&leaf.verb, Verb::Is(own) if own == method))
        };
        let found = is(self.method)
            .or_else(|| {
                if *self.method == Method::HEAD {
                    is(&Method::GET)
                } else {
                    None
                }
            })
            .or_else(|| fitting().find(|leaf| leaf.verb == Verb::Any))
            .map(|leaf| leaf.route);
        if found.is_none() {
            let names: Vec<_> = fitting()
                .filter_map(|leaf| match &leaf.verb {
                    Verb::Is(method) => Some(method.as_str().to_owned()),
                    Verb::Any => None,
                })
                .collect();
            self.allow.extend(names);
        }
        found
    }
}
