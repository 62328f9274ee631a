//! All suites, in the order in which they run: the quick ones first.

use miette::Result;

use super::{Suite, host, programs, python, system};

pub fn all() -> Result<Vec<Suite>> {
    let mut suites = host::suites()?;
    suites.push(system::suite());
    suites.push(programs::suite()?);
    suites.push(python::suite()?);
    Ok(suites)
}
