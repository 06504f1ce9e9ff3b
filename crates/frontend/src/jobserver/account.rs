//! The tokens that running hooks hold and owe.

/// Counts tokens.
///
/// Each running hook should hold a token. It never waits for one: if none is free, it
/// owes a token, which is taken from the fifo as soon as one comes back. So at any time
/// `held + owed = running`, and when a hook ends, its token goes back only if no other
/// hook owes one.
#[derive(Debug)]
pub(super) struct Account {
    tokens: usize,
    running: usize,
    held: usize,
}

/// What to do with the fifo when a hook has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    /// Nothing: another hook gets its token.
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
        Self { tokens, running: 0, held: 0 }
    }

    /// The number of tokens to take as soon as they are free.
    pub fn owed(&self) -> usize {
        self.running - self.held
    }

    /// A hook has started, and owes a token.
    pub fn hook_started(&mut self) {
        self.running += 1;
    }

    /// Tokens were taken from the fifo, at most as many as are owed.
    pub fn took(&mut self, tokens: usize) {
        debug_assert!(tokens <= self.owed(), "took {tokens} of {} that are owed", self.owed());
        self.held += tokens;
    }

    /// A hook has ended.
    pub fn hook_ended(&mut self) -> Settlement {
        let had_debt = self.owed() > 0;
        self.running -= 1;
        if self.running == 0 {
            self.held = 0;
            return Settlement::Refill(self.tokens);
        }
        if had_debt {
            return Settlement::DebtPaid;
        }
        self.held -= 1;
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
