//! The tokens that running hooks hold and owe.

/// Counts tokens.
///
/// Each running hook should hold a token. It never waits for one: if none is free, it
/// owes a token, which is taken from the fifo as soon as one comes back. So at any time
/// `held + owed = running + surplus`, and when a hook ends, its token goes back only if no other
/// hook owes one.
#[derive(Debug)]
pub(super) struct Account {
    tokens: usize,
    running: usize,
    held: usize,
    /// The number of tokens that exist beyond `tokens`, since that was lowered.
    surplus: usize,
}

/// What to do with the fifo when a hook has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    /// Nothing: another hook gets its token, or the token is one too many.
    DebtPaid,
    /// Put one token back.
    GiveBack,
    /// Empty the fifo and put in this number of tokens, because no hook runs: clients
    /// that were killed have not returned theirs, and a broken client may have
    /// returned too many.
    Refill(usize),
}

impl Account {
    pub fn new(tokens: usize) -> Self {
        Self { tokens, running: 0, held: 0, surplus: 0 }
    }

    /// The number of tokens to take as soon as they are free.
    pub fn owed(&self) -> usize {
        self.owed_by_hooks() + self.surplus
    }

    fn owed_by_hooks(&self) -> usize {
        self.running - self.held
    }

    /// Changes the number of tokens. Returns how many to put into the fifo; if there
    /// are too many, the others are owed.
    #[must_use]
    pub fn set_tokens(&mut self, tokens: usize) -> usize {
        let (more, fewer) = (tokens.saturating_sub(self.tokens), self.tokens.saturating_sub(tokens));
        self.tokens = tokens;
        let kept = more.min(self.surplus);
        self.surplus = self.surplus - kept + fewer;
        let held = (more - kept).min(self.owed_by_hooks());
        self.held += held;
        more - kept - held
    }

    /// A hook has started, and owes a token.
    pub fn hook_started(&mut self) {
        self.running += 1;
    }

    /// Tokens were taken from the fifo, at most as many as are owed.
    pub fn took(&mut self, tokens: usize) {
        debug_assert!(tokens <= self.owed(), "took {tokens} of {} that are owed", self.owed());
        let held = tokens.min(self.owed_by_hooks());
        self.held += held;
        self.surplus = self.surplus.saturating_sub(tokens - held);
    }

    /// A hook has ended.
    pub fn hook_ended(&mut self) -> Settlement {
        let had_debt = self.owed_by_hooks() > 0;
        self.running -= 1;
        if self.running == 0 {
            (self.held, self.surplus) = (0, 0);
            return Settlement::Refill(self.tokens);
        }
        if had_debt {
            return Settlement::DebtPaid;
        }
        self.held -= 1;
        if self.surplus > 0 {
            self.surplus -= 1;
            return Settlement::DebtPaid;
        }
        Settlement::GiveBack
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An account, with a number in place of a fifo.
    struct Model {
        account: Account,
        free: usize,
    }

    impl Model {
        fn new(tokens: usize) -> Self {
            Self { account: Account::new(tokens), free: tokens }
        }

        fn pay(&mut self) {
            let taken = self.account.owed().min(self.free);
            self.free -= taken;
            self.account.took(taken);
        }

        fn set_tokens(&mut self, tokens: usize) {
            self.free += self.account.set_tokens(tokens);
            self.pay();
        }

        fn start(&mut self) {
            self.account.hook_started();
            self.pay();
        }

        fn end(&mut self) {
            match self.account.hook_ended() {
                Settlement::DebtPaid => {}
                Settlement::GiveBack => self.free += 1,
                Settlement::Refill(tokens) => self.free = tokens,
            }
            self.pay();
        }
    }

    #[test]
    fn each_hook_holds_a_token() {
        let mut model = Model::new(3);
        model.start();
        model.start();
        assert_eq!((model.free, model.account.owed()), (1, 0));
        model.end();
        assert_eq!(model.free, 2);
        model.end();
        assert_eq!(model.free, 3);
    }

    #[test]
    fn a_debt_is_paid_by_a_token_that_comes_back() {
        let mut model = Model::new(2);
        model.start();
        // A compiler of the first hook has the other token.
        model.free -= 1;
        model.start();
        assert_eq!((model.free, model.account.owed()), (0, 1));
        model.free += 1;
        model.pay();
        assert_eq!((model.free, model.account.owed()), (0, 0));
    }

    #[test]
    fn a_hook_that_ends_pays_a_debt() {
        let mut model = Model::new(1);
        model.start();
        model.start();
        model.start();
        assert_eq!(model.account.owed(), 2);
        model.end();
        assert_eq!((model.free, model.account.owed()), (0, 1));
        model.end();
        assert_eq!((model.free, model.account.owed()), (0, 0));
        model.end();
        assert_eq!(model.free, 1);
    }

    #[test]
    fn another_number_of_tokens_counts_as_soon_as_they_are_free() {
        let mut model = Model::new(2);
        for _ in 0..3 {
            model.start();
        }
        assert_eq!((model.free, model.account.owed()), (0, 1));
        // One for the hook that owes it, and one for clients.
        model.set_tokens(4);
        assert_eq!((model.free, model.account.owed()), (1, 0));
        model.set_tokens(1);
        assert_eq!((model.free, model.account.owed()), (0, 2));
        model.end();
        assert_eq!((model.free, model.account.owed()), (0, 1));
        model.set_tokens(2);
        assert_eq!((model.free, model.account.owed()), (0, 0));
        model.end();
        assert_eq!(model.free, 1);
        model.end();
        assert_eq!(model.free, 2);
        model.set_tokens(5);
        assert_eq!(model.free, 5);
        model.set_tokens(3);
        assert_eq!((model.free, model.account.owed()), (3, 0));
    }

    #[test]
    fn tokens_that_were_lost_are_back_when_no_hook_runs() {
        let mut model = Model::new(4);
        model.start();
        model.free = 0;
        model.end();
        assert_eq!(model.free, 4);
        // So are surplus tokens.
        model.start();
        model.free = 9;
        model.end();
        assert_eq!(model.free, 4);
    }

    #[test]
    fn held_and_free_tokens_are_all_tokens_in_any_order() {
        let mut model = Model::new(3);
        // Each bit: a hook starts, or a running one ends.
        for order in 0_u32..1 << 12 {
            for bit in 0..12 {
                if order >> bit & 1 == 1 {
                    model.start();
                } else if model.account.running > 0 {
                    model.end();
                }
                assert_eq!(model.account.held + model.free, 3);
                assert_eq!(model.account.held, model.account.running.min(3));
            }
        }
    }
}
