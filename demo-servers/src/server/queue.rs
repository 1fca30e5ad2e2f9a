//! A queue inside the process, between threads that accept or read and threads that work. The kernel knows nothing of
//! it: what waits here waits in none of its queues.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What waits for a worker, in the order of arrival.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), closed: false }), changed: Condvar::new() }
    }

    /// Adds to the end, and wakes a worker.
    pub(crate) fn push(&self, item: T) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting.push_back(item);
        self.changed.notify_one();
    }

    /// Waits for the next one. Returns `None` when the queue is closed.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.closed {
                return None;
            }
            if let Some(item) = state.waiting.pop_front() {
                return Some(item);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        state.waiting.clear();
        self.changed.notify_all();
    }
}

/// Ends the workers when the thread that fills the queue ends, also by an error or panic.
pub(crate) struct CloseAtEnd<T>(pub(crate) Arc<Queue<T>>);

impl<T> Drop for CloseAtEnd<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_is_the_first_out_until_it_closes() {
        let queue = Arc::new(Queue::new());
        queue.push(1);
        queue.push(2);
        assert_eq!(queue.pop(), Some(1));
        let waiting = Arc::clone(&queue);
        let worker = std::thread::spawn(move || (waiting.pop(), waiting.pop()));
        while !queue.state.lock().unwrap().waiting.is_empty() {
            std::thread::yield_now();
        }
        drop(CloseAtEnd(Arc::clone(&queue)));
        assert_eq!(worker.join().unwrap(), (Some(2), None));
        queue.push(3);
        assert_eq!(queue.pop(), None, "a closed queue gives nothing more");
    }
}
