//! `hookpool top`: what a service does, live, and keys that turn it.
//!
//! [`Screen`] decides what is shown and what a key does. A task talks to the service, a
//! thread reads keys, and the event loop brings them together.

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::time::Duration;

use hookpool_wire::{Admission, CancelledRequest, Drain, Limits, LimitsChange, Phase, RequestStatus, Status};
use hyper::Method;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Table, TableState};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

use super::control::admission_line;
use super::status::{NOTHING, connect, end_of, request_cells, request_titles, summary, unanswered};
use crate::arguments::service::SocketArguments;
use crate::exit::{Exit, Failure};
use crate::format::printable;
use crate::lifecycle;
use crate::service::client::{Client, ClientError};
use crate::signals::Signals;

/// How often the service is asked.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shows the service until the user quits.
pub fn execute(place: SocketArguments) -> Result<Exit, Failure> {
    lifecycle::run(async {
        // Before the terminal is changed, so that an error is readable.
        let client = connect(&place).await?;
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Err(Failure::usage("standard input and output have to be a terminal")
                .with_hint("`hookpool status` prints the same once"));
        }
        let signals = Signals::listen()?;
        let terminal = Terminal::take().map_err(|error| Failure::pool(format!("cannot use the terminal: {error}")))?;
        show(terminal, client, place, signals).await
    })
}

/// The terminal, which is given back when this is dropped; when the program panics, by
/// ratatui.
struct Terminal(DefaultTerminal);

impl Terminal {
    fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self).inspect_err(|_| drop(ratatui::try_restore()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may be gone.
        let _ = ratatui::try_restore();
    }
}

async fn show(
    mut terminal: Terminal,
    client: Client,
    place: SocketArguments,
    mut signals: Signals,
) -> Result<Exit, Failure> {
    let (wish, wishes) = mpsc::channel(8);
    let (tell, mut news) = mpsc::channel(1);
    tokio::spawn(talk(client, place, wishes, tell));
    let mut keys = keys();
    let mut screen = Screen::default();
    loop {
        if terminal.0.draw(|frame| screen.draw(frame)).is_err() {
            // A terminal that cannot be written to is gone.
            return Ok(Exit::OutputClosed);
        }
        let action = tokio::select! {
            signal = signals.end() => return Ok(Exit::Interrupted(signal)),
            some = news.recv() => {
                // The task that talks does not end before this one.
                screen.take_in(some.unwrap_or_else(|| Err("no news".into())));
                None
            }
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => screen.key(key),
                // The size has changed.
                Some(_) => None,
                // The terminal is gone.
                None => return Ok(Exit::OutputClosed),
            },
        };
        match action {
            None => {}
            Some(Action::Quit) => return Ok(Exit::Success),
            Some(Action::Ask(asked)) if wish.try_send(asked).is_err() => {
                screen.message = "the service has yet to answer".into();
            }
            Some(Action::Ask(_)) => {}
        }
    }
}

/// The events of the terminal, read by a thread.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    keys
}

/// What the user asks the service for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Cancel(u64),
    Drain,
    Resume,
    Jobs(NonZeroUsize),
}

/// The state of the service, with what came of a wish; or why it is not known.
type News = Result<(Box<Status>, Option<String>), String>;

/// Asks the service for its status again and again, and for what the user wishes.
async fn talk(client: Client, place: SocketArguments, mut wishes: mpsc::Receiver<Wish>, tell: mpsc::Sender<News>) {
    let mut client = Some(client);
    let mut wish = None;
    loop {
        let news = match news(&mut client, &place, wish.take()).await {
            Ok(news) => Ok(news),
            Err(failure) => {
                // The next service at this place gets a new connection.
                client = None;
                Err(failure.message().to_owned())
            }
        };
        if tell.send(news).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            some = wishes.recv() => match some {
                Some(some) => wish = Some(some),
                None => return,
            },
        }
    }
}

async fn news(
    client: &mut Option<Client>,
    place: &SocketArguments,
    wish: Option<Wish>,
) -> Result<(Box<Status>, Option<String>), Failure> {
    let client = match client {
        Some(client) => client,
        None => client.insert(connect(place).await?),
    };
    let message = match wish {
        None => None,
        Some(wish) => Some(ask(client, wish).await?),
    };
    let status = client.ask(Method::GET, "/v1/status", NOTHING).await.map_err(unanswered)?;
    Ok((Box::new(status), message))
}

/// Returns what came of a wish, in words.
async fn ask(client: &mut Client, wish: Wish) -> Result<String, Failure> {
    let asked = match wish {
        Wish::Cancel(id) => {
            let path = format!("/v1/requests/{id}");
            let asked = client.ask::<CancelledRequest>(Method::DELETE, &path, NOTHING).await;
            asked.map(|CancelledRequest { id }| format!("cancelled {id}"))
        }
        Wish::Drain => {
            let asked = client.ask::<Admission>(Method::POST, "/v1/drain", Some(&Drain { exit: false })).await;
            asked.map(|admission| admission_line(&admission))
        }
        Wish::Resume => {
            let asked = client.ask::<Admission>(Method::POST, "/v1/resume", NOTHING).await;
            asked.map(|admission| admission_line(&admission))
        }
        Wish::Jobs(jobs) => {
            let change = LimitsChange { jobs: Some(jobs), ..LimitsChange::default() };
            let asked = client.ask::<Limits>(Method::PATCH, "/v1/limits", Some(&change)).await;
            asked.map(|limits| format!("{} jobs", limits.jobs))
        }
    };
    match asked {
        Ok(words) => Ok(words),
        Err(ClientError::Refused(problem)) => Ok(problem.detail),
        Err(error) => Err(unanswered(error)),
    }
}

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Quit,
    Ask(Wish),
}

/// What the requests are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    /// The oldest first.
    #[default]
    Age,
    Phase,
    Tree,
    Hook,
}

impl Order {
    fn next(self) -> Self {
        match self {
            Self::Age => Self::Phase,
            Self::Phase => Self::Tree,
            Self::Tree => Self::Hook,
            Self::Hook => Self::Age,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Phase => "phase",
            Self::Tree => "tree",
            Self::Hook => "hook",
        }
    }
}

/// What the keys mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Commands,
    /// They are the text of the filter.
    Filter,
    /// `y` cancels this request.
    Confirm(u64),
}

/// What is shown.
#[derive(Debug, Default)]
struct Screen {
    status: Option<Box<Status>>,
    /// Why the status is not of now.
    trouble: Option<String>,
    /// What came of the last key.
    message: String,
    order: Order,
    filter: String,
    mode: Mode,
    /// The request that is selected. It stays selected when others come and go.
    selected: Option<u64>,
}

impl Screen {
    fn take_in(&mut self, news: News) {
        match news {
            Ok((status, message)) => {
                self.status = Some(status);
                self.trouble = None;
                self.message = message.unwrap_or(std::mem::take(&mut self.message));
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    /// The requests that are shown, in their order.
    fn requests(&self) -> Vec<&RequestStatus> {
        let all = self.status.iter().flat_map(|status| &status.requests.first);
        let is_wanted = |request: &&RequestStatus| {
            let texts = [Some(&request.tree), Some(&request.hook), Some(&request.phase), request.caller_id.as_ref()];
            texts.into_iter().flatten().any(|text| text.contains(&self.filter))
        };
        let mut requests: Vec<_> = all.filter(is_wanted).collect();
        // Requests come the oldest first, and the sort keeps that where it sees none.
        match self.order {
            Order::Age => {}
            Order::Phase => requests.sort_by_key(|request| &request.phase),
            Order::Tree => requests.sort_by_key(|request| &request.tree),
            Order::Hook => requests.sort_by_key(|request| &request.hook),
        }
        requests
    }

    fn key(&mut self, key: KeyEvent) -> Option<Action> {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Some(Action::Quit);
        }
        match self.mode {
            Mode::Commands => self.command(key.code),
            Mode::Filter => {
                match key.code {
                    KeyCode::Char(character) => self.filter.push(character),
                    KeyCode::Backspace => drop(self.filter.pop()),
                    KeyCode::Enter => self.mode = Mode::Commands,
                    KeyCode::Esc => (self.mode, self.filter) = (Mode::Commands, String::new()),
                    _ => {}
                }
                None
            }
            Mode::Confirm(request) => {
                self.mode = Mode::Commands;
                (key.code == KeyCode::Char('y')).then_some(Action::Ask(Wish::Cancel(request)))
            }
        }
    }

    fn command(&mut self, key: KeyCode) -> Option<Action> {
        self.message.clear();
        match key {
            KeyCode::Char('q') => return Some(Action::Quit),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Char('s') => self.order = self.order.next(),
            KeyCode::Down | KeyCode::Char('j') => self.select(1),
            KeyCode::Up | KeyCode::Char('k') => self.select(-1),
            KeyCode::Char('x') => match self.position() {
                Some(row) => self.mode = Mode::Confirm(self.requests()[row].id),
                None => self.message = "no request is selected".into(),
            },
            KeyCode::Char('d') => {
                let phase = self.status.as_ref()?.admission.phase;
                return Some(Action::Ask(if phase == Phase::Serving { Wish::Drain } else { Wish::Resume }));
            }
            KeyCode::Char('+') => return self.jobs(1),
            KeyCode::Char('-') => return self.jobs(-1),
            _ => {}
        }
        None
    }

    fn jobs(&mut self, change: isize) -> Option<Action> {
        let jobs = self.status.as_ref()?.limits.jobs.saturating_add_signed(change);
        Some(Action::Ask(Wish::Jobs(NonZeroUsize::new(jobs)?)))
    }

    /// The row of the selected request, if it is shown.
    fn position(&self) -> Option<usize> {
        let selected = self.selected?;
        self.requests().iter().position(|request| request.id == selected)
    }

    fn select(&mut self, change: isize) {
        let requests = self.requests();
        let last = requests.len().saturating_sub(1);
        let row = self.position().map_or(0, |row| row.saturating_add_signed(change).min(last));
        self.selected = requests.get(row).map(|request| request.id);
    }

    fn draw(&self, frame: &mut Frame) {
        let Some(status) = &self.status else {
            return frame
                .render_widget(Line::from(self.trouble.as_deref().unwrap_or("asking the service")), frame.area());
        };
        let lines = summary(status);
        let quarantined = &status.quarantined;
        let quarantined_height = if quarantined.count == 0 { 0 } else { quarantined.count.min(3) + 1 };
        let heights = [length(lines.len()), Constraint::Length(1), Constraint::Fill(1), length(quarantined_height)];
        let [top, _, middle, bottom, footer] =
            Layout::vertical(heights.into_iter().chain([Constraint::Length(1)])).areas(frame.area());
        frame.render_widget(Paragraph::new(lines.join("\n")), top);
        self.draw_requests(frame, middle);
        if quarantined.count > 0 {
            let pools = quarantined.first.iter().take(3);
            let pools = pools.map(|pool| format!("  {}: {}", printable(&pool.tree), printable(&pool.reason)));
            let lines: Vec<String> =
                std::iter::once(format!("{} in quarantine", quarantined.count)).chain(pools).collect();
            frame.render_widget(Paragraph::new(lines.join("\n")), bottom);
        }
        frame.render_widget(self.footer(), footer);
    }

    fn draw_requests(&self, frame: &mut Frame, area: Rect) {
        /// The least width of the last column, a path.
        const LEAST: usize = 20;
        /// The column of the hook, which may lose its end.
        const HOOK: usize = 4;
        let width = usize::from(area.width);
        let titles = request_titles(width);
        let cells = |request| (request_cells(request, width), &request.tree);
        let cells: Vec<(_, &String)> = self.requests().into_iter().map(cells).collect();
        let widest = |(column, title): (usize, &&str)| {
            let cells = cells.iter().map(|(cells, _)| cells[column].chars().count());
            cells.max().unwrap_or_default().max(title.len())
        };
        let widths: Vec<usize> = titles.iter().enumerate().map(widest).collect();
        // A space after each.
        let taken = widths.iter().sum::<usize>() + widths.len();
        let left = width.saturating_sub(taken).max(LEAST);
        let rows =
            cells.into_iter().map(|(cells, tree)| Row::new(cells.into_iter().chain([end_of(&printable(tree), left)])));
        let bold = Style::new().add_modifier(Modifier::BOLD);
        // Where there is too little room, names of hooks lose their ends.
        let mut widths: Vec<_> = widths.into_iter().chain([left]).map(length).collect();
        widths[HOOK] = Constraint::Fill(1);
        let table = Table::new(rows, widths)
            .header(Row::new(titles.iter().copied().chain(["tree"])).style(bold))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut state = TableState::new().with_selected(self.position());
        frame.render_stateful_widget(table, area, &mut state);
    }

    fn footer(&self) -> Line<'_> {
        let bold = |text: String| Line::from(Span::styled(text, Modifier::BOLD));
        match (self.mode, &self.trouble) {
            (Mode::Confirm(request), _) => bold(format!("cancel request {request}? y: yes, any other key: no")),
            (Mode::Filter, _) => bold(format!("filter: {}_", self.filter)),
            (Mode::Commands, Some(trouble)) => bold(printable(trouble)),
            (Mode::Commands, None) if !self.message.is_empty() => bold(printable(self.message.trim_end())),
            (Mode::Commands, None) => {
                let filter = if self.filter.is_empty() { String::new() } else { format!(" ({})", self.filter) };
                let sort = self.order.name();
                Line::from(format!("q quit  ↑↓ select  x cancel  s sort: {sort}  / filter{filter}  d drain  + - jobs"))
            }
        }
    }
}

fn length(cells: usize) -> Constraint {
    Constraint::Length(u16::try_from(cells).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn status() -> Box<Status> {
        // The example of the reference.
        let page = include_str!("../../../../docs/src/reference/http.md");
        let example = page.split("GET /v1/status\n```\n\n```json\n").nth(1).unwrap().split("```").next().unwrap();
        let mut status: Status = serde_json::from_str(example).unwrap();
        let request = |id, phase: &str, tree: &str| RequestStatus {
            id,
            caller_id: Some(format!("caller-{id}")),
            tree: tree.to_owned(),
            phase: phase.to_owned(),
            hook: "prepare_metadata_for_build_editable".to_owned(),
            ..status.requests.first[0].clone()
        };
        let all =
            [request(1, "running", "/src/c"), request(2, "waiting_for_lock", "/src/a"), request(9, "queued", "/src/b")];
        status.requests = hookpool_wire::Listed { count: 3, first: all.into() };
        let pool = json!({"tree": "/src/d", "python": "python3", "reason": "SIGKILL", "remaining_ms": 1.0});
        status.quarantined = hookpool_wire::Listed { count: 1, first: vec![serde_json::from_value(pool).unwrap()] };
        Box::new(status)
    }

    fn screen() -> Screen {
        let mut screen = Screen::default();
        screen.take_in(Ok((status(), None)));
        screen
    }

    /// What comes of the keys: the last action.
    fn press(screen: &mut Screen, keys: &str) -> Option<Action> {
        let mut action = None;
        for key in keys.chars() {
            let code = match key {
                '\n' => KeyCode::Enter,
                '\x1b' => KeyCode::Esc,
                other => KeyCode::Char(other),
            };
            action = screen.key(code.into());
        }
        action
    }

    fn ids(screen: &Screen) -> Vec<u64> {
        screen.requests().iter().map(|request| request.id).collect()
    }

    fn drawn(screen: &Screen, width: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, 24)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn keys_ask_the_service() {
        let jobs = |jobs| Some(Action::Ask(Wish::Jobs(NonZeroUsize::new(jobs).unwrap())));
        let cases = [
            ("q", Some(Action::Quit)),
            ("d", Some(Action::Ask(Wish::Drain))),
            ("+", jobs(3)),
            ("-", jobs(1)),
            ("x", None),
            ("jx", None),
            ("jxy", Some(Action::Ask(Wish::Cancel(1)))),
            ("jjxy", Some(Action::Ask(Wish::Cancel(2)))),
            ("jjjjjkxy", Some(Action::Ask(Wish::Cancel(2)))),
            ("jxn", None),
            ("jxd", None),
            ("/q", None),
            ("/src/a\njxy", Some(Action::Ask(Wish::Cancel(2)))),
        ];
        for (keys, expected) in cases {
            assert_eq!(press(&mut screen(), keys), expected, "{keys:?}");
        }
    }

    #[test]
    fn a_drained_service_is_resumed() {
        let mut status = status();
        status.admission.phase = Phase::Draining;
        let mut screen = Screen::default();
        screen.take_in(Ok((status, None)));
        assert_eq!(press(&mut screen, "d"), Some(Action::Ask(Wish::Resume)));
    }

    #[test]
    fn one_job_is_the_least() {
        let mut status = status();
        status.limits.jobs = 1;
        let mut screen = Screen::default();
        screen.take_in(Ok((status, None)));
        assert_eq!(press(&mut screen, "-"), None);
    }

    #[test]
    fn requests_are_sorted_and_filtered() {
        let mut screen = screen();
        assert_eq!(ids(&screen), [1, 2, 9]);
        for (keys, expected) in [("s", vec![9, 1, 2]), ("s", vec![2, 9, 1]), ("ss", vec![1, 2, 9])] {
            press(&mut screen, keys);
            assert_eq!(ids(&screen), expected, "{:?}", screen.order);
        }
        press(&mut screen, "/lock\n");
        assert_eq!(ids(&screen), [2]);
        press(&mut screen, "\x1b");
        assert_eq!(ids(&screen), [1, 2, 9]);
        press(&mut screen, "/caller-9\n");
        assert_eq!(ids(&screen), [9]);
    }

    #[test]
    fn the_selection_follows_its_request() {
        let mut screen = screen();
        press(&mut screen, "jj");
        let mut later = status();
        later.requests.first.remove(0);
        screen.take_in(Ok((later, None)));
        assert_eq!(press(&mut screen, "xy"), Some(Action::Ask(Wish::Cancel(2))));
    }

    #[test]
    fn everything_has_its_place_at_80_and_200_columns() {
        let mut screen = screen();
        for width in [80, 200] {
            let drawn = drawn(&screen, width);
            for text in ["serving", "waiting for lock", "prepare_metadata_for", "/src/b", "/src/d: SIGKILL", "q quit"] {
                assert!(drawn.contains(text), "{text} at {width}:\n{drawn}");
            }
            assert_eq!(drawn.contains("prepare_metadata_for_build_editable"), width == 200);
            assert_eq!(drawn.contains("caller-2"), width == 200);
        }
        screen.take_in(Err("no service listens".into()));
        assert!(drawn(&screen, 80).contains("no service listens"));
        assert!(drawn(&screen, 80).contains("/src/b"), "what was known last stays");
    }
}
