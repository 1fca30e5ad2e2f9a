//! Lists of names and values: `name=value,name=value` in variables of the environment, with `%` before two hexadecimal
//! digits; a line `Name: value` each in a file.

/// A list of the environment.
///
/// # Errors
/// What is wrong, without the value, which may be a secret.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let one = |part: &str| {
        let (name, value) = part.split_once('=').ok_or("NAME=VALUE,NAME=VALUE is expected")?;
        let name = name.trim();
        if name.is_empty() {
            return Err("a name is empty".to_owned());
        }
        Ok((name.to_owned(), decoded(value.trim()).ok_or_else(|| format!("the value of '{name}' is not readable"))?))
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(one).collect()
}

/// The lines of a file. What begins with `#` is a comment.
///
/// # Errors
/// Which line is wrong, without the value, which may be a secret.
pub(super) fn lines(text: &str) -> Result<Vec<(String, String)>, String> {
    let one = |(number, line): (usize, &str)| {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("line {number}: 'NAME: VALUE' is expected"))?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    };
    let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(one).collect()
}

/// A text without `%`; `None` if that is no UTF-8, or no digits follow.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let digits = rest.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn lists_of_the_environment() {
        assert_eq!(pairs("a=b"), Ok(owned(&[("a", "b")])));
        assert_eq!(pairs(" api-key = x%20y ,b=c=d,, e="), Ok(owned(&[("api-key", "x y"), ("b", "c=d"), ("e", "")])));
        assert_eq!(pairs("k=%C3%BC"), Ok(owned(&[("k", "ü")])));
        assert_eq!(pairs(""), Ok(Vec::new()));
        for wrong in ["secret", "=secret", "k=secret%", "k=secret%2", "k=secret%zz", "k=secret%ff", "k=secret%+1"] {
            let error = pairs(wrong).expect_err(wrong);
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn lines_of_a_file() {
        let text = "# who we are\nAuthorization: Bearer a:b\r\n\n x-scope : 7 \n";
        assert_eq!(lines(text), Ok(owned(&[("Authorization", "Bearer a:b"), ("x-scope", "7")])));
        assert_eq!(lines("a: b\nsecret"), Err("line 2: 'NAME: VALUE' is expected".to_owned()));
    }
}
