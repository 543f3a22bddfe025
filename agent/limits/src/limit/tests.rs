//! The table, and every form in it.

use proptest::prelude::*;

use super::*;

const LOOP: Device = Device { major: 7, minor: 3 };

#[test]
fn rows_stand_in_the_order_of_kinds() {
    for (index, row) in TABLE.iter().enumerate() {
        assert_eq!(row.kind as usize, index, "{}", row.flag);
    }
}

#[test]
fn what_is_written_is_read_back() {
    let value = Limit::Value(300_000_001);
    let whole = Limit::Value(299_999_232);
    let amounts = [(value, "300000001", whole), (Limit::Max, "-1", Limit::Max)];
    for (limit, text, kept) in amounts {
        let written = Form::Bytes.write(&Value::Amount(limit)).unwrap();
        assert_eq!(written, text);
        let held = Form::Bytes.read(&written, None).unwrap();
        assert_eq!(Form::Bytes.kept(held, 4096), Held::Amount(kept));
    }
}

#[test]
fn every_form_writes_what_the_kernel_takes() {
    let quota = Value::Quota {
        quota: Limit::Value(50_000),
        period: 100_000,
    };
    let no_quota = Value::Quota {
        quota: Limit::Max,
        period: 50_000,
    };
    let swap = Value::Swap {
        memory: 100,
        both: Limit::Value(300),
        earlier: None,
    };
    let rate = Value::Rate {
        device: LOOP,
        limit: Limit::Value(9),
    };
    for (form, value, text) in [
        (Form::Count, &Value::Amount(Limit::Max), "max"),
        (Form::Bytes, &swap, "300"),
        (Form::SwapAlone, &swap, "200"),
        (Form::Quota, &quota, "50000"),
        (Form::Quota, &no_quota, "-1"),
        (Form::Period, &quota, "100000"),
        (Form::QuotaAndPeriod, &quota, "50000 100000"),
        (Form::QuotaAndPeriod, &no_quota, "max 50000"),
        (Form::Shares, &Value::Shares(512), "512"),
        (Form::Shares, &Value::Weight(100), "1024"),
        (Form::Weight, &Value::Shares(1024), "100"),
        (Form::DeviceRow, &rate, "7:3 9"),
        (Form::DeviceKey("wbps"), &rate, "7:3 wbps=9"),
    ] {
        let written = form.write(value).unwrap();
        assert_eq!(written, text);
        assert!(form.read(&written, Some(LOOP)).is_some(), "{text}");
    }
    assert_eq!(Form::Weight.write(&quota), None);
}

#[test]
fn rows_of_devices() {
    let amount = |number| Some(Held::Amount(Limit::Value(number)));
    let none = Some(Held::Amount(Limit::Max));
    let rows = "7:30 5\n7:3 9\n";
    assert_eq!(Form::DeviceRow.read(rows, Some(LOOP)), amount(9));
    assert_eq!(Form::DeviceRow.read("7:30 5\n", Some(LOOP)), none);
    let keys = "8:0 rbps=1 wbps=2 riops=3 wiops=4\n7:3 rbps=max wbps=6 riops=7 wiops=8\n";
    assert_eq!(Form::DeviceKey("wbps").read(keys, Some(LOOP)), amount(6));
    assert_eq!(Form::DeviceKey("rbps").read(keys, Some(LOOP)), none);
    assert_eq!(Form::DeviceKey("rbps").read("", Some(LOOP)), none);
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
        assert_eq!(weight_of_shares(shares), weight, "{shares}");
    }
    for (weight, shares) in [(1, 10), (100, 1024), (300, 3072), (10_000, 102_400)] {
        assert_eq!(shares_of_weight(weight), shares, "{weight}");
    }
    // Debian's runc 1.1 makes 20 of 512 shares, and 39 of 1024.
    for (weight, shares) in [(1, 2), (20, 512), (59, 512), (39, 1024), (100, 1024)] {
        assert!(is_weight_of_shares(weight, shares), "{weight} {shares}");
    }
    for (weight, shares) in [(21, 512), (100, 512), (0, 2)] {
        assert!(!is_weight_of_shares(weight, shares), "{weight} {shares}");
    }
    for (weight, shares) in [(1, 2), (39, 998), (100, 2597), (10_000, 262_144)] {
        assert_eq!(line_shares_of_weight(weight), shares, "{weight}");
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
    fn no_text_panics(text in "([0-9]{1,25}|:|=|max|-|,|7:3|rbps=|\n| ){0,20}") {
        for row in TABLE {
            for file in row.v1.iter().chain(row.v2) {
                let _ = file.form.read(&text, Some(LOOP));
            }
        }
    }

    #[test]
    fn more_shares_are_no_less_weight(shares in 2_u64..262_144) {
        prop_assert!(weight_of_shares(shares) <= weight_of_shares(shares + 1));
    }
}
