//! Integration tests: one binary, which runs the program as its users do.

mod compare;
mod compare_test;
mod damage;
mod fidelity;
mod inject;
mod need;
mod power;
mod recover;
mod refusal;
mod scene;
mod seeded;
mod snap;
mod source;
mod sweep;
mod tidy;
mod trees;
mod work;
