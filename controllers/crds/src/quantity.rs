//! Kubernetes quantities as numbers, so that `1Gi` equals `1024Mi`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::cmp::Ordering;

/// A quantity that is not a number with one of the known suffixes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity such as 512Mi, 2Gi or 500m")]
pub struct Malformed(pub String);

const BINARY: [(&str, u32); 6] = [
    ("Ki", 10),
    ("Mi", 20),
    ("Gi", 30),
    ("Ti", 40),
    ("Pi", 50),
    ("Ei", 60),
];
const DECIMAL: [(&str, i32); 9] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

/// The value in thousandths, rounded up as Kubernetes does.
pub fn millis(quantity: &Quantity) -> Result<i128, Malformed> {
    parse(quantity.0.trim()).ok_or_else(|| Malformed(quantity.0.clone()))
}

/// The value in whole units (bytes, cores), rounded up.
pub fn units(quantity: &Quantity) -> Result<i64, Malformed> {
    let millis = millis(quantity)?;
    i64::try_from(millis.div_euclid(1000) + i128::from(millis.rem_euclid(1000) != 0))
        .map_err(|_| Malformed(quantity.0.clone()))
}

/// Compares two quantities by value; those that cannot be read compare as text.
pub fn compare(a: &Quantity, b: &Quantity) -> Ordering {
    match (millis(a), millis(b)) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a.0.cmp(&b.0),
    }
}

fn parse(text: &str) -> Option<i128> {
    let number_end = text
        .find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let (sign, number) = match number.as_bytes().first()? {
        b'-' => (-1, &number[1..]),
        b'+' => (1, &number[1..]),
        _ => (1, number),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty())
        || whole.len() + fraction.len() > 18
        || !whole
            .bytes()
            .chain(fraction.bytes())
            .all(|c| c.is_ascii_digit())
    {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = fraction.len() as u32;
    if let Some((_, bits)) = BINARY.iter().find(|(known, _)| *known == suffix) {
        let scaled = digits.checked_mul(1 << bits)?.checked_mul(1000)?;
        return Some(sign * divide_up(scaled, 10_i128.checked_pow(scale)?));
    }
    let exponent = match suffix {
        "" => 0,
        _ => match DECIMAL.iter().find(|(known, _)| *known == suffix) {
            Some((_, exponent)) => *exponent,
            None => suffix
                .strip_prefix(['e', 'E'])?
                .parse::<i32>()
                .ok()
                .filter(|e| e.abs() <= 18)?,
        },
    };
    let power = exponent + 3 - i32::try_from(scale).ok()?;
    let magnitude = 10_i128.checked_pow(power.unsigned_abs())?;
    let value = if power < 0 {
        divide_up(digits, magnitude)
    } else {
        digits.checked_mul(magnitude)?
    };
    Some(sign * value)
}

fn divide_up(value: i128, by: i128) -> i128 {
    value / by + i128::from(value % by != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn q(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    #[test]
    fn compares_by_value_across_suffixes() {
        for (a, b) in [
            ("1Gi", "1024Mi"),
            ("0.5", "500m"),
            ("1e3", "1k"),
            ("1.5Gi", "1536Mi"),
            ("2", "2000m"),
        ] {
            assert_eq!(compare(&q(a), &q(b)), Ordering::Equal, "{a} {b}");
        }
        assert_eq!(compare(&q("1G"), &q("1Gi")), Ordering::Less);
        assert_eq!(compare(&q("-1"), &q("1m")), Ordering::Less);
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for text in ["", "abc", "1GB", "1 Gi", "--1", "1.2.3", "Gi", "1e99", "."] {
            assert!(millis(&q(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn counts_bytes() {
        assert_eq!(units(&q("64Mi")), Ok(64 << 20));
        assert_eq!(units(&q("1500m")), Ok(2));
    }

    proptest! {
        #[test]
        fn reads_every_whole_number(value in 0_i64..1 << 50) {
            prop_assert_eq!(units(&q(&value.to_string())), Ok(value));
            prop_assert_eq!(units(&q(&format!("{}Ki", value >> 10))), Ok(value >> 10 << 10));
        }

        #[test]
        fn never_panics(text in ".{0,24}") {
            let _ = millis(&Quantity(text));
        }
    }
}
