fn main() {
    println!("Hello from Rust's standard library!");
}
