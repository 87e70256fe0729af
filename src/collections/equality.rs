//! Containers equal whatever has equal elements.

/// Compares two containers as slices, for each line: parameters, left type, right type.
macro_rules! equal_as_slices {
    ($([$($parameters:tt)*] $left:ty, $right:ty $(, where $clone:ident: Clone)?;)*) => {$(
        impl<T: PartialEq<U>, U, $($parameters)*> PartialEq<$right> for $left
        $(where $clone: Clone)?
        {
            #[inline]
            fn eq(&self, other: &$right) -> bool {
                self[..] == other[..]
            }
        }
    )*};
}
