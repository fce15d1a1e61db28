-- Purchases of households in 2017, with campaigns and coupons.
-- Households, stores and coupons get tables of their own; demographics are columns of households.
CREATE TABLE households AS
SELECT household_id, d.* EXCLUDE (household_id)
FROM (SELECT household_id FROM transactions UNION SELECT household_id FROM campaigns
      UNION SELECT household_id FROM coupon_redemptions UNION SELECT household_id FROM demographics) h
LEFT JOIN demographics d USING (household_id) ORDER BY household_id;
DROP TABLE demographics;
CREATE TABLE stores AS SELECT DISTINCT store_id FROM transactions ORDER BY store_id;

-- A campaign's end is announced with its start.
CREATE OR REPLACE TABLE campaign_descriptions AS
SELECT campaign_id, campaign_type, start_date::TIMESTAMP AS start_date,
    date_diff('day', start_date::DATE, end_date::DATE) AS lasts
FROM campaign_descriptions;
CREATE OR REPLACE TABLE campaigns AS
SELECT row_number() OVER (ORDER BY campaign_id, household_id) AS id, c.*, d.start_date
FROM campaigns c JOIN campaign_descriptions d USING (campaign_id);
CREATE OR REPLACE TABLE coupon_redemptions AS
SELECT row_number() OVER (ORDER BY redemption_date, household_id, coupon_upc, campaign_id) AS id,
    household_id, campaign_id, coupon_upc, redemption_date::TIMESTAMP AS redeemed
FROM coupon_redemptions;
CREATE TABLE coupon AS
SELECT DISTINCT coupon_upc FROM coupons UNION SELECT coupon_upc FROM coupon_redemptions;
-- Only products that are bought; promotions and coupons of others are part of no path.
CREATE OR REPLACE TABLE transactions AS
SELECT row_number() OVER (ORDER BY transaction_timestamp, household_id, product_id, basket_id) AS id,
    t.* EXCLUDE (basket_id, week)
FROM transactions t;
DELETE FROM products WHERE product_id NOT IN (SELECT product_id FROM transactions);
CREATE OR REPLACE TABLE coupons AS
SELECT row_number() OVER (ORDER BY campaign_id, coupon_upc, product_id) AS id, c.*, d.start_date
FROM coupons c JOIN campaign_descriptions d USING (campaign_id)
WHERE product_id IN (SELECT product_id FROM products);
-- A week's promotions are known as it begins; a quarter of the products is enough.
CREATE OR REPLACE TABLE promotions AS
SELECT row_number() OVER (ORDER BY week, product_id, store_id) AS id,
    product_id, store_id, display_location, mailer_location,
    TIMESTAMP '2016-12-27' + week * INTERVAL 7 DAY AS week_begins
FROM promotions
WHERE product_id IN (SELECT product_id FROM products)
    AND store_id IN (SELECT store_id FROM stores) AND product_id::BIGINT % 4 = 0;

ALTER TABLE households SET (key = household_id, time = NULL);
ALTER TABLE stores SET (key = store_id);
ALTER TABLE coupon SET (key = coupon_upc);
ALTER TABLE campaign_descriptions SET (key = campaign_id, time = start_date);
ALTER TABLE campaigns SET (key = id, time = start_date);
ALTER TABLE coupons SET (key = id, time = start_date);
ALTER TABLE coupon_redemptions SET (key = id, time = redeemed);
ALTER TABLE promotions SET (key = id, time = week_begins);
ALTER TABLE transactions SET (key = id, time = transaction_timestamp);
ALTER TABLE campaigns ADD FOREIGN KEY (household_id) REFERENCES households;
ALTER TABLE campaigns ADD FOREIGN KEY (campaign_id) REFERENCES campaign_descriptions;
ALTER TABLE coupons ADD FOREIGN KEY (coupon_upc) REFERENCES coupon;
ALTER TABLE coupons ADD FOREIGN KEY (product_id) REFERENCES products;
ALTER TABLE coupons ADD FOREIGN KEY (campaign_id) REFERENCES campaign_descriptions;
ALTER TABLE coupon_redemptions ADD FOREIGN KEY (household_id) REFERENCES households;
ALTER TABLE coupon_redemptions ADD FOREIGN KEY (campaign_id) REFERENCES campaign_descriptions;
ALTER TABLE coupon_redemptions ADD FOREIGN KEY (coupon_upc) REFERENCES coupon;
ALTER TABLE promotions ADD FOREIGN KEY (product_id) REFERENCES products;
ALTER TABLE promotions ADD FOREIGN KEY (store_id) REFERENCES stores;
ALTER TABLE transactions ADD FOREIGN KEY (household_id) REFERENCES households;
ALTER TABLE transactions ADD FOREIGN KEY (store_id) REFERENCES stores;
ALTER TABLE transactions ADD FOREIGN KEY (product_id) REFERENCES products;

-- Does a household that was in a campaign within 90 days redeem a coupon in the next 30?
CREATE TASK household_redeems OPTIONS (
    val = '2017-08-15', test = '2017-10-01', every = '15 days', start = '2017-03-15',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
PREDICT COUNT(coupon_redemptions.*, 0, 30, days) > 0 FOR EACH households.household_id
WHERE COUNT(campaigns.*, -90, 0, days) > 0;

-- Does a household that bought within 60 days buy nothing in the next 30?
CREATE TASK household_churn OPTIONS (
    val = '2017-08-15', test = '2017-10-01', every = '15 days', start = '2017-02-15',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
PREDICT COUNT(transactions.*, 0, 30, days) = 0 FOR EACH households.household_id
WHERE COUNT(transactions.*, -60, 0, days) > 0;

-- What does a household that bought within 60 days spend in the next 30, in dollars?
CREATE TASK household_spend OPTIONS (
    val = '2017-08-15', test = '2017-10-01', every = '15 days', start = '2017-02-15',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
PREDICT SUM(transactions.sales_value, 0, 30, days) FOR EACH households.household_id
WHERE COUNT(transactions.*, -60, 0, days) > 0;

-- Is a product that was bought within 60 days bought in the next 30?
CREATE TASK product_bought OPTIONS (
    val = '2017-08-15', test = '2017-10-01', every = '15 days', start = '2017-02-15',
    regime = 'rolling', sample = [3000, 1500, 3000]) AS
PREDICT COUNT(transactions.*, 0, 30, days) > 0 FOR EACH products.product_id
WHERE COUNT(transactions.*, -60, 0, days) > 0;
