//! pagewise
