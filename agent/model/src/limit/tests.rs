//! Limits and their order, sets, shares and weights.

use proptest::prelude::*;

use super::weight::{Scale, shares_of_weight, weight_of_shares};
use super::*;

#[test]
fn kinds_stand_in_their_order() {
    assert!(Kind::ALL.is_sorted());
    assert_eq!(Kind::ALL.len(), Kind::WriteIops as usize + 1);
}

#[test]
fn weights() {
    for (shares, weight) in [
        (0, 1),
        (2, 1),
        (1024, 100),
        (262_144, 10_000),
        (512, 59),
        (2048, 174),
    ] {
        assert_eq!(weight_of_shares(shares, Scale::Curve), weight, "{shares}");
    }
    for (weight, shares) in [(1, 10), (100, 1024), (300, 3072), (10_000, 102_400)] {
        assert_eq!(shares_of_weight(weight, Scale::Curve), shares, "{weight}");
    }
    // Debian's runc 1.1 makes 20 of 512 shares, and 39 of 1024.
    for (shares, weight) in [(2, 1), (512, 20), (1024, 39)] {
        assert_eq!(weight_of_shares(shares, Scale::Line), weight, "{shares}");
    }
    for (weight, shares) in [(1, 2), (39, 998), (100, 2597), (10_000, 262_144)] {
        assert_eq!(shares_of_weight(weight, Scale::Line), shares, "{weight}");
    }
}

#[test]
fn numbers() {
    for (text, shown) in [("0-2,4", "0-2,4"), ("3,1,2", "1-3"), ("", ""), ("7", "7")] {
        assert_eq!(Numbers::parse(text).unwrap().to_string(), shown);
    }
    for text in ["a", "1-", "2-1", "0-99999999", "+1", "1,,2", "-1"] {
        assert_eq!(Numbers::parse(text), None, "{text}");
    }
}

#[test]
fn the_tighter_holds() {
    let amount = |number| Held::Amount(Limit::Value(number));
    assert_eq!(amount(3).tighter(amount(2)), amount(2));
    assert_eq!(Held::Amount(Limit::Max).tighter(amount(2)), amount(2));
    let quota = |quota, period| Held::Quota { quota, period };
    let half = quota(Limit::Value(50), 100);
    assert_eq!(
        half.clone().tighter(quota(Limit::Value(60), 200)),
        quota(Limit::Value(60), 200)
    );
    assert_eq!(quota(Limit::Max, 1).tighter(half.clone()), half);
    let set = |text| Held::Numbers(Numbers::parse(text).unwrap());
    assert_eq!(set("0-3").tighter(set("2-5")), set("2-3"));
}

proptest! {
    #[test]
    fn more_shares_are_no_less_weight(shares in 2_u64..262_144) {
        let weight = |shares| weight_of_shares(shares, Scale::Curve);
        prop_assert!(weight(shares) <= weight(shares + 1));
    }
}
