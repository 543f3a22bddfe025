//! Ways out of a container, one class a test: each works where nobody is on guard, here and on this kernel, and fails
//! against `agent run`.

mod archive;
mod attacker;
mod bomb;
mod leaks;
mod links;
mod overwrite;
mod privileges;
mod release;
mod terminal;
