"""The smallest project with everything a store keeps: a dataset, a model, a check, a served answer."""

from pathlib import Path

from project_folder import Project

SHOP = '''
    import polars as pl

    from penstock import Pipeline

    shop = Pipeline("shop", goal="Name a price.")


    @shop.dataset(key="item")
    def prices() -> pl.DataFrame:
        return pl.DataFrame({"item": ["tea", "milk"], "price": [3.0, 1.0]})


    @shop.model
    def book(prices: pl.DataFrame, *, factor: float = 1.0) -> dict[str, float]:
        return {item: price * factor for item, price in prices.rows()}


    @shop.check
    def nothing_is_free(book: dict[str, float]) -> None:
        assert min(book.values()) > 0


    @shop.serve(examples=[{"item": "tea"}])
    def price(book: dict[str, float], *, item: str) -> float:
        """The price of an item."""
        if item == "broken":
            raise ValueError("no such thing")
        return book[item]
'''


def make_shop(root: Path) -> Project:
    """Write the project and make its first release."""
    root.mkdir(exist_ok=True)
    project = Project(root)
    project.write(SHOP, "shop.py")
    assert project.run().release == "shop@1"
    return project
