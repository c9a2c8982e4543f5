//! Integration tests: one binary, which runs the program as its users do.

mod capture;
mod compare;
mod compare_test;
mod damage;
mod diffshow;
mod fidelity;
mod frozen;
mod inject;
mod keys;
mod need;
mod power;
mod recover;
mod refusal;
mod restore;
mod scene;
mod seeded;
mod select;
mod snap;
mod source;
mod sqlite;
mod sweep;
mod tidy;
mod trees;
mod work;
