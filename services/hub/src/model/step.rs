//! Which steps a state has, and what each does.

use super::{AGENTS, Action, Down, Flaw, KEYS, Model, REPLICAS, Session, Stage, State, Up};

/// Sessions of one agent that exist at the same time: the one in use, and zombies.
const SESSIONS: usize = 2;

impl State {
    /// The session at whose other end the agent is.
    fn current(&self, agent: usize) -> Option<usize> {
        self.sessions[agent].iter().position(|session| session.open)
    }

    fn hang_up(&mut self, agent: usize) {
        self.agents[agent].welcomed = false;
        for session in &mut self.sessions[agent] {
            session.open = false;
            session.down.clear();
        }
    }

    /// Steps that are no fault and no change: the system by itself.
    pub(super) fn progress(&self, model: &Model) -> Vec<Action> {
        let mut steps = Vec::new();
        for agent in 0..model.agents {
            let (ledger, own) = (&self.ledgers[agent], &self.agents[agent]);
            for (at, session) in self.sessions[agent].iter().enumerate() {
                if !session.open {
                    steps.push(Action::Notice(agent, at));
                }
                if !session.up.is_empty() {
                    steps.push(Action::Take(agent, at));
                }
                // a zombie's reading and sending reaches nobody
                if session.epoch == 0 || !session.open {
                    continue;
                }
                if session.scanned < ledger.head || session.next().is_some() {
                    steps.push(Action::Send(agent, at));
                }
                if session.covered(model.flaw) > session.bookmarked {
                    steps.push(Action::Bookmark(agent, at));
                }
                if !session.down.is_empty() {
                    steps.push(Action::Hear(agent));
                }
            }
            let used = ledger.head > 0;
            if used && self.current(agent).is_none() && self.sessions[agent].len() < SESSIONS {
                let known = self.sessions.iter().flatten().map(|s| s.replica + 1).max();
                let replicas = (known.unwrap_or(0) + 1).min(REPLICAS);
                steps.extend((0..replicas).map(|replica| Action::Dial(agent, replica)));
            }
            for key in 0..KEYS {
                if own.copy[key].is_some_and(|entry| entry.stage == Stage::Told) {
                    steps.push(Action::Do(agent, key));
                }
            }
            if own.durable < own.received {
                steps.push(Action::Save(agent));
            }
        }
        steps
    }

    /// Changes and faults that may still come.
    pub(super) fn disturbances(&self, model: &Model) -> Vec<Action> {
        let mut steps = Vec::new();
        for agent in 0..model.agents {
            let ledger = &self.ledgers[agent];
            // agents that were not used yet are alike, and so are keys
            let used = agent == 0 || self.ledgers[agent - 1].head > 0;
            if self.changes < model.changes && used {
                let mut fresh = true;
                for key in 0..KEYS {
                    match ledger.rows[key] {
                        None if ledger.lives[key] == 0 && !fresh => {}
                        None => {
                            fresh &= ledger.lives[key] > 0;
                            steps.push(Action::Write(agent, key));
                        }
                        Some(row) if row.tombstone && row.settled => {
                            steps.push(Action::Write(agent, key));
                        }
                        Some(row) if row.tombstone => {}
                        Some(_) => {
                            steps.push(Action::Write(agent, key));
                            steps.push(Action::Erase(agent, key));
                        }
                    }
                }
            }
            if self.faults < model.faults && ledger.head > 0 {
                if self.current(agent).is_some() {
                    steps.push(Action::Break(agent));
                }
                steps.push(Action::Crash(agent));
                steps.push(Action::Forget(agent));
            }
        }
        if self.faults < model.faults {
            steps.extend((0..REPLICAS).filter_map(|replica| {
                let sessions = self.sessions.iter().flatten();
                let holds = sessions.into_iter().any(|s| s.replica == replica);
                holds.then_some(Action::Die(replica))
            }));
        }
        steps
    }

    /// Does a step.
    pub(super) fn step(&mut self, action: Action, flaw: Flaw) {
        if let Err(wrong) = self.try_step(action, flaw) {
            self.wrong = Some(wrong);
        }
        self.canonical();
    }

    fn try_step(&mut self, action: Action, flaw: Flaw) -> Result<(), &'static str> {
        match action {
            Action::Write(agent, key) => {
                self.changes += 1;
                self.ledgers[agent].write(key);
            }
            Action::Erase(agent, key) => {
                self.changes += 1;
                self.ledgers[agent].erase(key);
            }
            Action::Dial(agent, replica) => {
                let hello = self.agents[agent].hello();
                self.sessions[agent].push(Session::new(replica, hello));
            }
            Action::Send(agent, at) => self.send(agent, at),
            Action::Bookmark(agent, at) => {
                let session = &mut self.sessions[agent][at];
                session.bookmarked = session.covered(flaw);
                session.down.push(Down::Bookmark(session.bookmarked));
            }
            Action::Take(agent, at) => {
                let (session, ledger) = (&mut self.sessions[agent][at], &mut self.ledgers[agent]);
                while !session.up.is_empty() {
                    if !session.take(ledger, flaw)? {
                        self.close(agent, at);
                        break;
                    }
                }
            }
            Action::Notice(agent, at) => {
                self.sessions[agent].remove(at);
            }
            Action::Hear(agent) => {
                if let Some(at) = self.current(agent) {
                    let session = &mut self.sessions[agent][at];
                    let frame = session.down.remove(0);
                    self.agents[agent].hear(frame, &mut session.up, flaw);
                }
            }
            Action::Do(agent, key) => {
                self.agents[agent].work(key)?;
                if let Some(at) = self.current(agent).filter(|_| self.agents[agent].welcomed) {
                    let up = &mut self.sessions[agent][at].up;
                    self.agents[agent].report(key, up, flaw);
                    self.agents[agent].ask(key, up);
                }
            }
            Action::Save(agent) => {
                let own = &mut self.agents[agent];
                own.saved = own.copy;
                let moved = own.durable < own.received;
                own.durable = own.received;
                if let Some(at) = self
                    .current(agent)
                    .filter(|_| moved && self.agents[agent].welcomed)
                {
                    let durable = self.agents[agent].durable;
                    self.sessions[agent][at].up.push(Up::Durable(durable));
                }
            }
            Action::Break(agent) => {
                self.faults += 1;
                self.hang_up(agent);
            }
            Action::Crash(agent) => {
                self.faults += 1;
                self.hang_up(agent);
                self.agents[agent].crash();
            }
            Action::Forget(agent) => {
                self.faults += 1;
                self.hang_up(agent);
                self.agents[agent].forget();
            }
            Action::Die(replica) => {
                self.faults += 1;
                for agent in 0..AGENTS {
                    if let Some(at) = self.current(agent)
                        && self.sessions[agent][at].replica == replica
                    {
                        self.hang_up(agent);
                    }
                    self.sessions[agent].retain(|session| session.replica != replica);
                }
            }
        }
        Ok(())
    }

    /// A session ends; the agent hears of it at once.
    fn close(&mut self, agent: usize, at: usize) {
        if self.sessions[agent][at].open {
            self.hang_up(agent);
        }
        self.sessions[agent].remove(at);
    }

    /// Reads what has changed, and sends the key that waits longest; its body is read now.
    fn send(&mut self, agent: usize, at: usize) {
        let ledger = &self.ledgers[agent];
        let session = &mut self.sessions[agent][at];
        if session.epoch != ledger.epoch {
            self.close(agent, at);
            return;
        }
        for key in 0..KEYS {
            if let Some(row) = ledger.rows[key]
                && row.rev > session.scanned
                && session.dirty[key] == 0
            {
                session.dirty[key] = row.rev;
            }
        }
        session.scanned = ledger.head;
        let Some(key) = session.next() else { return };
        session.dirty[key] = 0;
        if let Some(row) = ledger.rows[key] {
            session.hand_over(key, row);
        }
    }

    /// The same state with agents and replicas in the order of what they are.
    pub(super) fn canonical(&mut self) {
        let mut names = [None; REPLICAS as usize];
        let mut order = (0..AGENTS).collect::<Vec<_>>();
        order.sort_by(|a, b| self.place(*b).cmp(&self.place(*a)));
        let before = std::mem::take(self);
        let mut next = 0;
        for (to, from) in order.into_iter().enumerate() {
            self.ledgers[to] = before.ledgers[from].clone();
            self.agents[to] = before.agents[from].clone();
            self.sessions[to] = before.sessions[from].clone();
            for session in &mut self.sessions[to] {
                let name = names[usize::from(session.replica)].get_or_insert_with(|| {
                    next += 1;
                    next - 1
                });
                session.replica = *name;
            }
        }
        self.changes = before.changes;
        self.faults = before.faults;
        self.wrong = before.wrong;
    }

    fn place(&self, agent: usize) -> (&super::Ledger, &super::Agent, &Vec<Session>) {
        (
            &self.ledgers[agent],
            &self.agents[agent],
            &self.sessions[agent],
        )
    }
}
