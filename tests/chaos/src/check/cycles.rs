//! Transactions over several tables: a graph of who depends on whom must have no cycle.
//!
//! The chains give the order of versions, so every edge is known rather than guessed: `ww` from a
//! version's commit to the next version's, `wr` from a commit to the loads that saw it, `rw` from a
//! load to the commit that replaced what it saw, and `rt` from an operation to those that were sent
//! after its end. A cycle with `rt` breaks strict serializability, one without breaks even
//! serializability. Names of anomalies follow A. Adya, "Weak Consistency" (1999).

use super::Violation;
use super::chain::{Chains, Fate};
use crate::history::{Answer, Call, History, Outcome};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Ww,
    Wr,
    Rw,
    Rt,
}

struct Node {
    number: u64,
    start: u64,
    end: u64,
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    edges: Vec<BTreeSet<(usize, Edge)>>,
}

impl Graph {
    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.edges.push(BTreeSet::new());
        self.nodes.len() - 1
    }

    fn link(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            self.edges[from].insert((to, edge));
        }
    }
}

/// One violation per group of operations that depend on each other in a circle.
#[must_use]
pub fn check(history: &History, chains: &Chains) -> Vec<Violation> {
    let mut graph = graph(history, chains);
    real_time(&mut graph);
    let circles = components(&graph);
    let found = circles.iter().map(|members| explain(&graph, members));
    found.collect()
}

fn graph(history: &History, chains: &Chains) -> Graph {
    let mut graph = Graph::default();
    let mut commits = BTreeMap::new();
    for (index, commit) in chains.commits.iter().enumerate() {
        if commit.fate == Fate::Absent || !commit.changes.iter().any(|c| chains.is_there(c)) {
            continue;
        }
        let node = graph.add(Node {
            number: commit.number,
            start: commit.start,
            end: commit.end,
        });
        commits.insert(index, node);
    }
    // The node that made each version, in order; a snapshot that nobody added has none.
    let mut versions: BTreeMap<&str, Vec<Option<usize>>> = BTreeMap::new();
    for (table, chain) in &chains.tables {
        let author = |id: &i64| {
            let commit = chains.authors.get(&(table.clone(), *id))?;
            commits.get(commit).copied()
        };
        let makers: Vec<Option<usize>> = chain.iter().map(author).collect();
        for pair in makers.windows(2) {
            if let (Some(one), Some(next)) = (pair[0], pair[1]) {
                graph.link(one, next, Edge::Ww);
            }
        }
        versions.insert(table, makers);
    }
    for op in &history.ops {
        if let (Call::Load { table }, Outcome::Ok(Answer::Table { head, .. })) =
            (&op.call, &op.outcome)
            && let Some(makers) = versions.get(table.as_str())
        {
            let place = head.map_or(Some(0), |head| chains.place(table, head).map(|p| p + 1));
            let Some(place) = place else { continue };
            let node = graph.add(Node {
                number: op.number,
                start: op.start,
                end: op.end,
            });
            if let Some(writer) = place.checked_sub(1).and_then(|at| makers[at]) {
                graph.link(writer, node, Edge::Wr);
            }
            if let Some(successor) = makers.get(place).copied().flatten() {
                graph.link(node, successor, Edge::Rw);
            }
        }
    }
    graph
}

/// Adds `rt` edges, leaving out those that follow from others.
fn real_time(graph: &mut Graph) {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        events.push((node.start, false, index));
        if node.end != u64::MAX {
            events.push((node.end, true, index));
        }
    }
    events.sort_unstable();
    // Operations that have ended, but before the beginning of no other one that has ended.
    let mut frontier: BTreeSet<usize> = BTreeSet::new();
    for (_, ends, index) in events {
        if ends {
            let start = graph.nodes[index].start;
            frontier.retain(|other| graph.nodes[*other].end >= start);
            frontier.insert(index);
        } else {
            for other in &frontier {
                graph.link(*other, index, Edge::Rt);
            }
        }
    }
}

/// Strongly connected components of more than one node, by Tarjan's algorithm without recursion.
fn components(graph: &Graph) -> Vec<BTreeSet<usize>> {
    const NEW: usize = usize::MAX;
    let count = graph.nodes.len();
    let targets: Vec<Vec<usize>> = graph
        .edges
        .iter()
        .map(|out| out.iter().map(|(to, _)| *to).collect())
        .collect();
    let (mut order, mut low) = (vec![NEW; count], vec![0; count]);
    let (mut open, mut is_open) = (Vec::new(), vec![false; count]);
    let mut found = Vec::new();
    let mut next = 0;
    for root in 0..count {
        if order[root] != NEW {
            continue;
        }
        let mut path = vec![(root, 0)];
        while let Some((node, edge)) = path.pop() {
            if edge == 0 {
                (order[node], low[node]) = (next, next);
                next += 1;
                open.push(node);
                is_open[node] = true;
            }
            if let Some(to) = targets[node].get(edge).copied() {
                path.push((node, edge + 1));
                if order[to] == NEW {
                    path.push((to, 0));
                } else if is_open[to] {
                    low[node] = low[node].min(order[to]);
                }
                continue;
            }
            if low[node] == order[node] {
                let mut members = BTreeSet::new();
                while let Some(member) = open.pop() {
                    is_open[member] = false;
                    members.insert(member);
                    if member == node {
                        break;
                    }
                }
                if members.len() > 1 {
                    found.push(members);
                }
            }
            if let Some((parent, _)) = path.last() {
                low[*parent] = low[*parent].min(low[node]);
            }
        }
    }
    found
}

/// Names the simplest cycle among the members, most serious first.
fn explain(graph: &Graph, members: &BTreeSet<usize>) -> Violation {
    use Edge::{Rt, Rw, Wr, Ww};
    let classes: [(&str, Edge, &[Edge]); 8] = [
        ("G0", Ww, &[Ww]),
        ("G1c", Wr, &[Ww, Wr]),
        ("G-single", Rw, &[Ww, Wr]),
        ("G2", Rw, &[Ww, Wr, Rw]),
        ("G0-realtime", Rt, &[Ww, Rt]),
        ("G1c-realtime", Rt, &[Ww, Wr, Rt]),
        ("G-single-realtime", Rw, &[Ww, Wr, Rt]),
        ("G2-realtime", Rw, &[Ww, Wr, Rw, Rt]),
    ];
    for (anomaly, first, rest) in classes {
        if let Some(cycle) = cycle(graph, members, first, rest) {
            return Violation::Cycle {
                anomaly: anomaly.to_owned(),
                cycle,
            };
        }
    }
    Violation::Cycle {
        anomaly: "cycle".to_owned(),
        cycle: format!("{} operations", members.len()),
    }
}

/// The shortest cycle that begins with an edge `first` and goes on with edges of `rest`.
fn cycle(graph: &Graph, members: &BTreeSet<usize>, first: Edge, rest: &[Edge]) -> Option<String> {
    let mut best: Option<Vec<(usize, Edge)>> = None;
    for from in members {
        for (to, _) in graph.edges[*from].iter().filter(|(_, e)| *e == first) {
            if let Some(mut path) = path(graph, members, *to, *from, rest)
                && best.as_ref().is_none_or(|b| path.len() + 1 < b.len())
            {
                path.insert(0, (*to, first));
                best = Some(path);
            }
        }
    }
    let steps = best?;
    let (start, _) = steps.last()?;
    let mut text = format!("{}", graph.nodes[*start].number);
    for (node, edge) in &steps {
        let edge = format!("{edge:?}").to_lowercase();
        text += &format!(" -{edge}-> {}", graph.nodes[*node].number);
    }
    Some(text)
}

/// The shortest way within the members: each node with the edge that leads to it.
fn path(
    graph: &Graph,
    members: &BTreeSet<usize>,
    from: usize,
    to: usize,
    edges: &[Edge],
) -> Option<Vec<(usize, Edge)>> {
    let mut came: BTreeMap<usize, (usize, Edge)> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(node) = queue.pop_front() {
        if node == to {
            let (mut steps, mut at) = (Vec::new(), node);
            while at != from {
                let (before, edge) = came[&at];
                steps.push((at, edge));
                at = before;
            }
            steps.reverse();
            return Some(steps);
        }
        for (next, edge) in &graph.edges[node] {
            if members.contains(next)
                && edges.contains(edge)
                && *next != from
                && !came.contains_key(next)
            {
                came.insert(*next, (node, *edge));
                queue.push_back(*next);
            }
        }
    }
    None
}
