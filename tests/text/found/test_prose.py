import pytest

from bothways.text.found.docstrings import installed_docstrings
from bothways.text.found.prose import mask_names, prose

NUMPYDOC = """Return the ``sum`` of *array* elements over a
given axis, see :func:`~numpy.add` and `the guide <https://x.org>`_ [1]_.

.. versionadded:: 1.7
   With a remark.

.. note::
    The result may
    overflow.

Parameters
----------
a : array_like
    Elements to sum.  With
    more words.
axis, keep : `~np.int`, optional
    Axis or axes:

    * first one, which is
      long
    * **second** one

dtype
    The type.

Returns
-------
sum : ndarray

References
----------
.. [1] A book,
   1999.

Notes
-----
It is defined as

.. math::

    s = \\sum_i a_i

where :math:`a_i` is an element::

    some = code

=====  =======
ord    norm
=====  =======
None   Frobenius
=====  =======

The end.

Examples
--------
>>> add(1, 2)
3

Text between.

>>> add(3)
"""

NUMPYDOC_PROSE = """Return the sum of array elements over a given axis, see numpy.add and the guide.

The result may overflow.

Parameters:
a : array_like
Elements to sum. With more words.
axis, keep : np.int, optional
Axis or axes:
- first one, which is long
- second one

dtype
The type.

Returns:
sum : ndarray

Notes:
It is defined as

where a_i is an element:

The end.

Examples:
Text between."""


def test_numpydoc():
    assert prose(NUMPYDOC) == NUMPYDOC_PROSE


def test_google_style_and_markdown():
    text = """Runs the [`Model`] on [inputs](https://x.org/y), see [1].

<Tip warning={true}>

Be careful.

</Tip>

> [!TIP]
> Quoted advice goes
> on here.

Args:
    hidden_states (`torch.Tensor` of shape `(batch, size)`, *optional*):
        Input to the
        layer.
    *args: Further ones that are
        passed on.

Returns:

Example:

```python
>>> run()
```
After the code.
"""
    assert (
        prose(text)
        == """Runs the Model on inputs, see [1].

Be careful.

Quoted advice goes on here.

Args:
hidden_states (torch.Tensor of shape (batch, size), optional): Input to the layer.
*args: Further ones that are passed on.

Example:
After the code."""
    )


def test_sphinx_fields():
    text = """:param int size: how
    large
:type size: int
:raises ValueError: if negative
:returns: a box
:rtype: Box"""
    assert prose(text) == "size: how large\n\nRaises ValueError: if negative\nReturns: a box"


def test_wrapped_lines_that_look_like_items_are_joined():
    assert prose("Values are allowed unless explicitly\nexcluding: the\nnegative.") == (
        "Values are allowed unless explicitly excluding: the negative."
    )
    assert prose("One sentence.\nAnother.") == "One sentence. Another."


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", ""),
        ("Plain text.", "Plain text."),
        ("Parameters\n----------\n", ""),
        (">>> only(code)\n1", ""),
        ("+---+---+\n| a | b |\n+---+---+\n\nAfter.", "After."),
        ("f(*args, **kwargs) and 2 * 3 * 4", "f(*args, **kwargs) and 2 * 3 * 4"),
        ("a_b and __init__ and x[1]", "a_b and __init__ and x[1]"),
        ("```\nnever closed", ""),
        ("..\n   a comment\n\nText.", "Text."),
        ("Shape:\n    - one\n    - two", "Shape:\n- one\n- two"),
    ],
)
def test_edges(text, plain):
    assert prose(text) == plain


def test_real_documentation_becomes_prose():
    found = list(installed_docstrings(libraries=["numpy", "torch", "stdlib"], megabytes=0.6))
    plain = [prose(docstring.text) for docstring in found]
    for markup in (">>>", ":func:`", ".. math", "----", "```"):
        before = sum(markup in docstring.text for docstring in found)
        assert before > 0
        assert sum(markup in text for text in plain) <= before / 20
    kept = sum(map(len, plain)) / sum(len(docstring.text) for docstring in found)
    assert 0.5 < kept < 0.98


LIBRARIES = ["numpy", "sklearn", "torch", "matplotlib", "stdlib", "huggingface_hub", "rich"]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("NumPy's arrays and numpy.linalg.norm", "library arrays and library"),
        ("PyTorch, torchvision, TORCH and pytorch-like", "library, library, library and library-like"),
        ("scikit-learn or sklearn.linear_model.Ridge", "library or library"),
        ("use np.array, plt.plot or nn.Module", "use library, library or library"),
        ("np and nn alone, snp.array", "np and nn alone, snp.array"),
        ("os.path.join of an email, time and email.message", "library of an email, time and library"),
        ("the Python standard library", "the Python library"),
        ("see https://pytorch.org/docs?x=1 for more", "see library for more"),
        ("Hugging Face, huggingface-hub and HF", "library, library and library"),
        ("Rich text is enriched", "library text is enriched"),
        ("import matplotlib.pyplot as plt", "import library as plt"),
        ("scipy is not among them", "scipy is not among them"),
        ("a sentence about nothing.", "a sentence about nothing."),
    ],
)
def test_names_of_libraries_are_masked(text, masked):
    assert mask_names(text, LIBRARIES) == masked


def test_without_libraries_only_aliases_and_addresses_are_masked():
    assert mask_names("numpy np.array https://x.org", []) == "numpy library library"


def test_no_name_is_left_in_real_documentation():
    libraries = ["numpy", "torch", "sklearn"]
    found = list(installed_docstrings(libraries=libraries, megabytes=0.6))
    masked = [mask_names(docstring.text, libraries).lower() for docstring in found]
    assert sum("numpy" in docstring.text.lower() for docstring in found) > 20
    for name in ("numpy", "torch", "sklearn", "scikit-learn"):
        assert not [text for text in masked if name in text]
