//! The fields of a head, or of trailers: a list, in the order in which they came.
//!
//! In come checked names and values, out go the same, each name as it was written. A message has a dozen fields, so that to
//! look at each costs less than to hash a name and keep a table; one allocation holds them all, and order is kept among
//! different names too.
//!
//! Looking for a name is a step for each field. How many there may be is the codecs' limit (`WEFT_MAX_HEADERS`, and in HTTP/2,
//! where more are read before they are refused, a head's bytes, of which each field counts 32 and more), and a message is looked
//! into a fixed number of times, and once for each rule of its route or its policies that asks for a field. So nothing here or above may look for a name once for each field, nor once for each word of
//! what a peer wrote: [`Fields::retain`] takes out many at once.

mod spelling;

use http::{HeaderName, HeaderValue};

pub use spelling::SpeltName;

/// Fields in the order in which they came. A name may be there more than once.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields {
    list: Vec<Field>,
}

/// One field.
#[derive(Clone, PartialEq, Eq)]
pub struct Field {
    name: SpeltName,
    value: HeaderValue,
}

/// What names a field that is to be written: a name, or a literal of one in lower case.
pub trait IntoName {
    /// The name.
    fn into_name(self) -> HeaderName;
}

impl IntoName for HeaderName {
    fn into_name(self) -> HeaderName {
        self
    }
}

impl IntoName for &HeaderName {
    fn into_name(self) -> HeaderName {
        self.clone()
    }
}

impl IntoName for &'static str {
    /// # Panics
    /// It is no name in lower case.
    fn into_name(self) -> HeaderName {
        HeaderName::from_static(self)
    }
}

impl Fields {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// None, with room for so many.
    #[must_use]
    pub fn with_capacity(fields: usize) -> Self {
        Self { list: Vec::with_capacity(fields) }
    }

    /// How many there are, each repetition counted.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&HeaderName, &HeaderValue)> {
        self.list.iter().map(|field| (field.name(), &field.value))
    }

    /// The names, in order, with repetitions.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &HeaderName> {
        self.list.iter().map(Field::name)
    }

    /// The values, in order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &HeaderValue> {
        self.list.iter().map(|field| &field.value)
    }

    /// The first value of this name.
    #[must_use]
    pub fn get<N>(&self, name: N) -> Option<&HeaderValue>
    where
        HeaderName: PartialEq<N>,
    {
        self.field(name).map(|field| &field.value)
    }

    /// All values of this name, in order.
    pub fn get_all<'a, N>(&'a self, name: N) -> impl Iterator<Item = &'a HeaderValue> + use<'a, N>
    where
        HeaderName: PartialEq<N>,
    {
        self.list.iter().filter(move |field| *field.name() == name).map(|field| &field.value)
    }

    /// The first field of this name.
    #[must_use]
    pub fn field<N>(&self, name: N) -> Option<&Field>
    where
        HeaderName: PartialEq<N>,
    {
        self.list.iter().find(|field| *field.name() == name)
    }

    /// Whether a field has this name.
    #[must_use]
    pub fn contains_key<N>(&self, name: N) -> bool
    where
        HeaderName: PartialEq<N>,
    {
        self.field(name).is_some()
    }

    /// Writes this value instead of all of the name, where the first of them stood and as that was written; else behind the
    /// others. Gives back the first.
    pub fn insert(&mut self, name: impl IntoName, value: HeaderValue) -> Option<HeaderValue> {
        let name = name.into_name();
        let Some(place) = self.place(&name) else {
            self.list.push(Field { name: name.into(), value });
            return None;
        };
        self.remove_behind(place, &name);
        Some(std::mem::replace(&mut self.list[place].value, value))
    }

    /// The same, with the name as it is written here.
    pub fn insert_spelt(&mut self, name: &SpeltName, value: HeaderValue) {
        self.insert(name.name(), value);
        self.respell(0, name);
    }

    /// Adds a field behind all others.
    pub fn append(&mut self, name: impl IntoName, value: HeaderValue) {
        self.list.push(Field { name: name.into_name().into(), value });
    }

    /// The same, with the name as it was written.
    pub fn append_spelt(&mut self, name: SpeltName, value: HeaderValue) {
        self.list.push(Field { name, value });
    }

    /// Takes out all fields of this name, and gives back the first one's value.
    pub fn remove<N>(&mut self, name: N) -> Option<HeaderValue>
    where
        HeaderName: PartialEq<N>,
    {
        let place = self.place(&name)?;
        self.remove_behind(place, &name);
        Some(self.list.remove(place).value)
    }

    /// Keeps those whose names are wanted.
    pub fn retain(&mut self, mut is_wanted: impl FnMut(&HeaderName) -> bool) {
        // Mostly all are, and none is moved.
        if let Some(first) = self.list.iter().position(|field| !is_wanted(field.name())) {
            let mut place = 0;
            self.list.retain(|field| {
                place += 1;
                place <= first || place > first + 1 && is_wanted(field.name())
            });
        }
    }

    /// Notes that the first field of this name, from this place on, was written so. Its place.
    pub fn respell(&mut self, from: usize, name: &SpeltName) -> Option<usize> {
        let mut rest = self.list.get_mut(from..)?.iter_mut().enumerate();
        let (place, field) = rest.find(|(_, field)| field.name() == name.name())?;
        field.name.clone_from(name);
        Some(from + place)
    }

    fn place<N>(&self, name: &N) -> Option<usize>
    where
        HeaderName: PartialEq<N>,
    {
        self.list.iter().position(|field| *field.name() == *name)
    }

    /// Takes out the fields of this name behind that place.
    fn remove_behind<N>(&mut self, place: usize, name: &N)
    where
        HeaderName: PartialEq<N>,
    {
        if self.list[place + 1..].iter().any(|field| *field.name() == *name) {
            let mut at = 0;
            self.list.retain(|field| {
                at += 1;
                at <= place + 1 || *field.name() != *name
            });
        }
    }
}

impl Field {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &HeaderName {
        self.name.name()
    }

    /// Its name as it was written.
    #[must_use]
    pub const fn spelt(&self) -> &SpeltName {
        &self.name
    }

    /// Its value.
    #[must_use]
    pub const fn value(&self) -> &HeaderValue {
        &self.value
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a Field;
    type IntoIter = std::slice::Iter<'a, Field>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<T: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: T) -> Self {
        let field = |(name, value): (HeaderName, _)| Field { name: name.into(), value };
        Self { list: fields.into_iter().map(field).collect() }
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.list).finish()
    }
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {:?}", self.name, self.value)
    }
}

#[cfg(test)]
impl<N> std::ops::Index<N> for Fields
where
    HeaderName: PartialEq<N>,
{
    type Output = HeaderValue;

    fn index(&self, name: N) -> &HeaderValue {
        self.get(name).expect("a field of this name")
    }
}

#[cfg(test)]
mod tests;
